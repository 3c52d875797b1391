import { either, emptySyntax, optional, row, type Syntax, type SyntaxWriter, sequence } from '../output-syntax.ts';
import type { ToolCallFormat, ToolDefinition } from './format.ts';
import { parametersOf, taggedValue } from './parameter-syntax.ts';
import { ParameterWriter, readValue } from './parameters.ts';

const open = '<tool_call>';
const close = '</tool_call>';
const keyOpen = '<arg_key>';
const keyClose = '</arg_key>';
const valueOpen = '<arg_value>';
const valueClose = '</arg_value>';

/** `<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>`: GLM 4.5 and later. */
export const glm: ToolCallFormat = {
  name: 'glm',
  isTaughtBy: (template) => template.includes(keyOpen) && template.includes(open),
  openTags: [open],
  tokenTags: [open, close, keyOpen, keyClose, valueOpen, valueClose],
  callSyntax(write, tools, many) {
    const forms = tools.map((tool) => callForm(write, tool));
    return forms.includes(null) ? null : row(either(...(forms as Syntax[])), optional(write.text('\n')), many);
  },
  *parse(context) {
    const { reader, sink } = context;
    reader.record();
    let next = yield* reader.textUntil([keyOpen, close]);
    const text = reader.recorded();
    if (next === null || next.text.trim() === '') return sink.content(open + text);
    const writer = new ParameterWriter(context, next.text.trim());
    while (next.tag === keyOpen) {
      const key = yield* reader.textUntil([keyClose]);
      const between = yield* reader.textUntil([valueOpen]);
      if (key === null || between === null) return;
      const value = yield* readValue(reader, valueClose, writer.takesText(key.text.trim()));
      next = yield* reader.textUntil([keyOpen, close]);
      if (value === null) return;
      writer.write(key.text.trim(), value);
      if (next === null) return;
    }
    writer.end();
  },
};

/** With or without line breaks between, as versions of the model differ. */
function callForm(write: SyntaxWriter, tool: ToolDefinition): Syntax | null {
  const given = parametersOf(tool);
  const gap = optional(write.text('\n'));
  const forms = given?.map((parameter) => {
    const value = taggedValue(parameter, valueClose, write);
    if (value === null || parameter.name.trim() !== parameter.name || parameter.name === '') return null;
    const before = write.text(`${keyOpen}${parameter.name}${keyClose}`);
    const written = sequence(before, gap, write.text(valueOpen), value, write.text(valueClose), gap);
    return parameter.isRequired ? written : either(written, emptySyntax);
  });
  return forms === undefined || forms.includes(null) ? null : sequence(write.text(open + tool.name), gap, ...(forms as Syntax[]), write.text(close));
}
