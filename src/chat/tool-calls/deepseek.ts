import type { Parsing } from '../output-reader.ts';
import { argumentsSchema, either, json, repeat, type Syntax, type SyntaxWriter, sequence } from '../output-syntax.ts';
import type { CallContext, ToolCallFormat, ToolDefinition } from './format.ts';

const listOpen = '<｜tool▁calls▁begin｜>';
const listClose = '<｜tool▁calls▁end｜>';
const open = '<｜tool▁call▁begin｜>';
const close = '<｜tool▁call▁end｜>';
const separator = '<｜tool▁sep｜>';

/** A list in tags: `function<｜tool▁sep｜>name` and fenced JSON (DeepSeek V3, R1), `name<｜tool▁sep｜>{...}` since V3.1. */
export const deepseek: ToolCallFormat = {
  name: 'deepseek',
  isTaughtBy: (template) => template.includes(listOpen),
  openTags: [listOpen],
  tokenTags: [listOpen, listClose, open, close, separator],
  callSyntax(write, tools, many) {
    const one = either(...tools.flatMap((tool) => callForms(write, tool)));
    const more = many ? [repeat(sequence(either(write.text('\n'), write.text('')), one))] : [];
    return sequence(write.text(listOpen), one, ...more, write.text(listClose));
  },
  *parse(context) {
    const { reader } = context;
    for (;;) {
      const next = yield* reader.textUntil([open, listClose]);
      if (next?.tag !== open) return;
      if (!(yield* parseCall(context))) return;
    }
  },
};

/** Models were taught the one or the other. */
function callForms(write: SyntaxWriter, tool: ToolDefinition): Syntax[] {
  const args = json(argumentsSchema(tool));
  return [
    sequence(write.text(`${open}function${separator}${tool.name}\n\`\`\`json\n`), args, write.text(`\n\`\`\`${close}`)),
    sequence(write.text(`${open}${tool.name}${separator}`), args, write.text(close)),
  ];
}

function* parseCall({ reader, sink }: CallContext): Parsing<boolean> {
  const first = yield* reader.textUntil([separator, close]);
  if (first?.tag !== separator) return first !== null;
  let name = first.text.trim();
  if ((yield* reader.peekPastSpace()) !== '{') {
    const line = yield* reader.textUntil(['\n']);
    if (line === null) return false;
    name = line.text.trim();
    yield* reader.acceptTag('```json');
  }
  sink.start(name);
  if (yield* reader.json((text) => sink.arguments(text))) sink.end();
  return (yield* reader.until([close], () => undefined)) !== null;
}
