import type { Parsing } from '../output-reader.ts';
import {
  argumentsSchema,
  either,
  emptySyntax,
  json,
  optional,
  pattern,
  repeat,
  row,
  type Syntax,
  type SyntaxWriter,
  sequence,
} from '../output-syntax.ts';
import { callObjects } from './call-object.ts';
import type { CallContext, ToolCallFormat, ToolDefinition } from './format.ts';
import { parseCallList } from './json-list.ts';

const open = '[TOOL_CALLS]';
const callId = '[CALL_ID]';
const args = '[ARGS]';

/** `[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`, and since 2025 `[TOOL_CALLS]name[ARGS]{...}` for each call. */
export const mistral: ToolCallFormat = {
  name: 'mistral',
  isTaughtBy: (template) => template.includes(open),
  openTags: [open],
  tokenTags: [open, callId, args],
  idLength: 9,
  callSyntax: (write, tools, many) => (write.isToken(args) ? namedSyntax(write, tools, many) : listSyntax(write, tools, many)),
  *parse(context) {
    const isList = (yield* context.reader.peekPastSpace()) === '[';
    yield* isList ? parseCallList(context) : parseNamed(context);
  },
};

function namedSyntax(write: SyntaxWriter, tools: readonly ToolDefinition[], many: boolean): Syntax {
  const id = write.isToken(callId) ? optional(sequence(write.text(callId), pattern('[a-zA-Z0-9]{9}'))) : emptySyntax;
  const one = either(...tools.map((tool) => sequence(write.text(open + tool.name), id, write.text(args), json(argumentsSchema(tool)))));
  return many ? sequence(one, repeat(one)) : one;
}

function listSyntax(write: SyntaxWriter, tools: readonly ToolDefinition[], many: boolean): Syntax {
  return sequence(write.text(`${open}[`), row(callObjects(write, tools, {}), write.text(', '), many), write.text(']'));
}

/** The name ends at a tag, or where the arguments begin. */
function* parseNamed({ reader, sink }: CallContext): Parsing<void> {
  reader.record();
  const name = yield* reader.textUntil([callId, args, '{']);
  const text = reader.recorded();
  if (name === null || name.text.trim() === '') return sink.content(text);
  if (name.tag === callId) yield* reader.textUntil([args]);
  sink.start(name.text.trim());
  // Behind a `{` that has been consumed the rest of an object is read with it put back.
  if (name.tag === '{') reader.unread('{');
  if (yield* reader.json((piece) => sink.arguments(piece))) sink.end();
}
