import type { Parsing } from '../output-reader.ts';
import type { CallContext, ToolCallFormat } from './format.ts';
import { ParameterWriter } from './parameters.ts';

const open = '<tool_call>';
const close = '</tool_call>';
const functionOpen = '<function=';
const functionClose = '</function>';
const parameterOpen = '<parameter=';
const parameterClose = '</parameter>';

/** `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder, Nemotron 3. */
export const qwenXml: ToolCallFormat = {
  name: 'qwen-xml',
  isTaughtBy: (template) => template.includes(functionOpen) && template.includes(parameterOpen),
  openTags: [open],
  tokenTags: [open, close],
  *parse(context) {
    const { reader, sink } = context;
    reader.record();
    const before = yield* reader.textUntil([functionOpen, close]);
    const name = before?.tag === functionOpen ? yield* reader.textUntil(['>']) : null;
    const text = reader.recorded();
    if (name === null) return sink.content(open + text);
    const isWhole = yield* parseParameters(context, name.text.trim());
    if (isWhole) yield* reader.until([close], () => undefined);
  },
};

/** @returns true when the call came to its end, the closing tag of the block not yet read */
function* parseParameters(context: CallContext, name: string): Parsing<boolean> {
  const { reader } = context;
  const writer = new ParameterWriter(context, name);
  for (;;) {
    const next = yield* reader.textUntil([parameterOpen, functionClose, close]);
    if (next === null) return false;
    if (next.tag !== parameterOpen) {
      writer.end();
      return next.tag === functionClose;
    }
    const key = yield* reader.textUntil(['>']);
    const value = yield* reader.textUntil([parameterClose]);
    if (key === null || value === null) return false;
    writer.write(key.text, value.text.replace(/^\n/, '').replace(/\n$/, ''));
  }
}
