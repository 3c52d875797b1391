import type { Parsing } from '../output-reader.ts';
import { row, sequence } from '../output-syntax.ts';
import { callObjects, parseCallObject } from './call-object.ts';
import type { CallContext, ToolCallFormat } from './format.ts';

/** `<tool_calls>[{"name": ..., "arguments": {...}}, ...]</tool_calls>`: Apriel. */
export const apriel: ToolCallFormat = listFormat('apriel', '<tool_calls>', '</tool_calls>');

/** `<TOOLCALL>[{"name": ..., "arguments": {...}}, ...]</TOOLCALL>`: Nemotron Nano 2. */
export const nemotron: ToolCallFormat = listFormat('nemotron', '<TOOLCALL>', '</TOOLCALL>');

function listFormat(name: string, open: string, close: string): ToolCallFormat {
  return {
    name,
    isTaughtBy: (template) => template.includes(`${open}[`),
    openTags: [open],
    tokenTags: [open, close],
    callSyntax: (write, tools, many) =>
      sequence(write.text(`${open}[`), row(callObjects(write, tools, {}), write.text(', '), many), write.text(`]${close}`)),
    *parse(context) {
      yield* parseCallList(context);
      yield* context.reader.until([close], () => undefined);
    },
  };
}

/** Call objects between brackets; what turns out not to be one is text. */
export function* parseCallList(context: CallContext): Parsing<void> {
  const { reader, sink } = context;
  reader.record();
  yield* reader.accept('[');
  do {
    const outcome = yield* parseCallObject(context);
    const text = reader.recorded();
    if (outcome === 'none') sink.content(text);
    if (outcome !== 'called') return;
    reader.record();
  } while (yield* reader.accept(','));
  yield* reader.accept(']');
  reader.recorded();
}
