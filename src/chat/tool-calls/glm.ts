import type { ToolCallFormat } from './format.ts';
import { ParameterWriter } from './parameters.ts';

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
      const value = yield* reader.textUntil([valueClose]);
      next = yield* reader.textUntil([keyOpen, close]);
      if (key === null || between === null || value === null) return;
      writer.write(key.text.trim(), value.text);
      if (next === null) return;
    }
    writer.end();
  },
};
