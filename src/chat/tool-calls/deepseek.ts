import type { Parsing } from '../output-reader.ts';
import type { CallContext, ToolCallFormat } from './format.ts';

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
  *parse(context) {
    const { reader } = context;
    for (;;) {
      const next = yield* reader.textUntil([open, listClose]);
      if (next?.tag !== open) return;
      if (!(yield* parseCall(context))) return;
    }
  },
};

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
