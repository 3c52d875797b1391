import { row } from '../output-syntax.ts';
import { callObjects, parseCallObject } from './call-object.ts';
import type { ToolCallFormat } from './format.ts';

const open = '<tool_call>';
const close = '</tool_call>';

/** `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes, Qwen 2.5 and 3, Granite 4 and many others. */
export const hermes: ToolCallFormat = {
  name: 'hermes',
  isTaughtBy: (template) => template.includes(open) && template.includes('arguments'),
  openTags: [open],
  tokenTags: [open, close],
  callSyntax: (write, tools, many) => row(callObjects(write, tools, { before: `${open}\n`, after: `\n${close}` }), write.text('\n'), many),
  *parse(context) {
    const { reader, sink } = context;
    reader.record();
    const outcome = yield* parseCallObject(context);
    const text = reader.recorded();
    let rest = '';
    const tag = yield* reader.until([close], (piece) => {
      rest += piece;
    });
    if (outcome === 'none') sink.content(open + text + rest + (tag ?? ''));
  },
};
