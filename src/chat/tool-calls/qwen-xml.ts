import type { Parsing } from '../output-reader.ts';
import { either, emptySyntax, row, type Syntax, type SyntaxWriter, sequence } from '../output-syntax.ts';
import type { CallContext, ToolCallFormat, ToolDefinition } from './format.ts';
import { parametersOf, taggedValue } from './parameter-syntax.ts';
import { ParameterWriter, readValue } from './parameters.ts';

interface Tags {
  readonly open: string;
  readonly close: string;
  /** Between a parameter's tags and its value. */
  readonly gap: string;
}

const functionOpen = '<function=';
const functionClose = '</function>';
const parameterOpen = '<parameter=';
const parameterClose = '</parameter>';

/** `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder, Nemotron 3. */
export const qwenXml: ToolCallFormat = xmlFormat('qwen-xml', { open: '<tool_call>', close: '</tool_call>', gap: '\n' });

/** The same in tags of its own, values without lines of their own: Seed-OSS. */
export const seedXml: ToolCallFormat = xmlFormat('seed-xml', { open: '<seed:tool_call>', close: '</seed:tool_call>', gap: '' });

function xmlFormat(name: string, tags: Tags): ToolCallFormat {
  const { open, close } = tags;
  return {
    name,
    isTaughtBy: (template) => template.includes(functionOpen) && template.includes(parameterOpen) && template.includes(open),
    openTags: [open],
    tokenTags: [open, close],
    callSyntax(write, tools, many) {
      const forms = tools.map((tool) => callForm(write, tool, tags));
      return forms.includes(null) ? null : row(either(...(forms as Syntax[])), write.text('\n'), many);
    },
    *parse(context) {
      const { reader, sink } = context;
      reader.record();
      const before = yield* reader.textUntil([functionOpen, close]);
      const called = before?.tag === functionOpen ? yield* reader.textUntil(['>']) : null;
      const text = reader.recorded();
      if (called === null) return sink.content(open + text);
      const isWhole = yield* parseParameters(context, called.text.trim(), close);
      if (isWhole) yield* reader.until([close], () => undefined);
    },
  };
}

/** @returns true when the call came to its end, the closing tag of the block not yet read */
function* parseParameters(context: CallContext, name: string, close: string): Parsing<boolean> {
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
    if (key === null) return false;
    const value = yield* readValue(reader, parameterClose, writer.takesText(key.text));
    if (value === null) return false;
    writer.write(key.text, value.replace(/^\n/, '').replace(/\n$/, ''));
  }
}

function callForm(write: SyntaxWriter, tool: ToolDefinition, { open, close, gap }: Tags): Syntax | null {
  const given = parametersOf(tool);
  const forms = given?.map((parameter) => {
    const value = taggedValue(parameter, parameterClose, write);
    if (value === null || parameter.name.includes('>')) return null;
    const written = sequence(write.text(`${parameterOpen}${parameter.name}>${gap}`), value, write.text(`${gap}${parameterClose}\n`));
    return parameter.isRequired ? written : either(written, emptySyntax);
  });
  if (forms === undefined || forms.includes(null) || tool.name.includes('>')) return null;
  return sequence(write.text(`${open}\n${functionOpen}${tool.name}>\n`), ...(forms as Syntax[]), write.text(`${functionClose}\n${close}`));
}
