import type { Parsing } from '../output-reader.ts';
import { row } from '../output-syntax.ts';
import { callObjects, parseCallObject } from './call-object.ts';
import type { CallContext, ToolCallFormat } from './format.ts';

const pythonTag = '<|python_tag|>';

/** The whole answer is `{"name": ..., "parameters": {...}}`, or several, parted by `;`: Llama 3.1 and later. */
export const llama3Json: ToolCallFormat = {
  name: 'llama3-json',
  isTaughtBy: (template) => template.includes('"parameters": ') && template.includes('ipython'),
  openTags: [pythonTag],
  tokenTags: [pythonTag],
  callSyntax: (write, tools, many) => row(callObjects(write, tools, { key: 'parameters' }), write.text('; '), many),
  bareStart: '{',
  looksLikeJson: true,
  parse: parseCalls,
  parseStart: parseCalls,
};

/** Only an object that names a tool of the request is a call: any other is the JSON that somebody asked for. */
function* parseCalls(context: CallContext): Parsing<void> {
  const { reader, sink } = context;
  for (;;) {
    reader.record();
    const outcome = (yield* reader.peekPastSpace()) === '{' ? yield* parseCallObject(context, { isStrict: true }) : 'none';
    const text = reader.recorded();
    if (outcome === 'none') sink.content(text);
    if (outcome !== 'called' || !(yield* reader.accept(';'))) return;
  }
}
