import { argumentsSchema, either, json, pattern, repeat, sequence } from '../output-syntax.ts';
import type { ToolCallFormat } from './format.ts';

const listOpen = '<|tool_calls_section_begin|>';
const listClose = '<|tool_calls_section_end|>';
const open = '<|tool_call_begin|>';
const close = '<|tool_call_end|>';
const args = '<|tool_call_argument_begin|>';

/** A list in tags of calls `functions.name:0` with JSON arguments: Kimi K2. */
export const kimi: ToolCallFormat = {
  name: 'kimi',
  isTaughtBy: (template) => template.includes(listOpen),
  openTags: [listOpen],
  tokenTags: [listOpen, listClose, open, close, args],
  callSyntax(write, tools, many) {
    const forms = tools.map((tool) =>
      sequence(write.text(`${open}functions.${tool.name}:`), pattern('[0-9]{1,3}'), write.text(args), json(argumentsSchema(tool)), write.text(close)),
    );
    const one = either(...forms);
    return sequence(write.text(listOpen), one, ...(many ? [repeat(one)] : []), write.text(listClose));
  },
  *parse({ reader, sink }) {
    for (;;) {
      const next = yield* reader.textUntil([open, listClose]);
      if (next?.tag !== open) return;
      const id = yield* reader.textUntil([args, close]);
      if (id === null) return;
      if (id.tag === close) continue;
      sink.start(
        id.text
          .trim()
          .replace(/^functions\./, '')
          .replace(/:\d+$/, ''),
      );
      if (yield* reader.json((text) => sink.arguments(text))) sink.end();
      yield* reader.until([close], () => undefined);
    }
  },
};
