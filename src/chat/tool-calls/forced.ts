/** Calls that a request forces: a schema holds the whole output, so it has the same form whatever the model's own one is. */
import { argumentsSchema } from '../output-syntax.ts';
import { parseCallObject } from './call-object.ts';
import type { ToolCallFormat, ToolDefinition } from './format.ts';

type Schema = Readonly<Record<string, unknown>>;

export interface ForcedCall {
  /** JSON Schema of the whole output. */
  readonly schema: Schema;
  /** Reads it back. */
  readonly format: ToolCallFormat;
}

/** One call of one of these tools. A single tool needs no name: the output is its arguments. */
export function forcedCall(tools: readonly ToolDefinition[]): ForcedCall {
  const [tool, second] = tools;
  if (tool !== undefined && second === undefined) return { schema: argumentsSchema(tool), format: argumentsOf(tool.name) };
  const branches = tools.map((one, index) => ({
    type: 'object',
    properties: { name: { const: one.name }, arguments: withMovedRefs(argumentsSchema(one), `#/anyOf/${index}/properties/arguments`) },
    required: ['name', 'arguments'],
    additionalProperties: false,
  }));
  return { schema: { anyOf: branches }, format: anyCall };
}

const formatFields = {
  isTaughtBy: () => false,
  openTags: [],
  tokenTags: [],
  *parse() {},
  callSyntax: () => null,
} as const satisfies Partial<ToolCallFormat>;

const anyCall: ToolCallFormat = {
  ...formatFields,
  name: 'forced',
  *parseStart(context) {
    yield* parseCallObject(context);
  },
};

function argumentsOf(toolName: string): ToolCallFormat {
  return {
    ...formatFields,
    name: 'forced-arguments',
    *parseStart({ reader, sink }) {
      if ((yield* reader.peekPastSpace()) !== '{') return;
      sink.start(toolName);
      if (yield* reader.json((text) => sink.arguments(text))) sink.end();
    },
  };
}

/** A schema that stands deeper than it was written for: references into it begin at its new place. */
function withMovedRefs(schema: Schema, place: string): Schema {
  const move = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(move);
    if (typeof value !== 'object' || value === null) return value;
    const moved = Object.entries(value).map(([key, item]): [string, unknown] =>
      key === '$ref' && typeof item === 'string' && (item === '#' || item.startsWith('#/')) ? [key, place + item.slice(1)] : [key, move(item)],
    );
    return Object.fromEntries(moved);
  };
  return move(schema) as Schema;
}
