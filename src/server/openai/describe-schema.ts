/** Words for JSON Schema and for received values: in error messages and in `docs/api.md`. */

export interface SchemaShape {
  readonly type?: unknown;
  readonly anyOf?: readonly SchemaShape[];
  readonly items?: SchemaShape;
  readonly const?: unknown;
  readonly minimum?: unknown;
  readonly maximum?: unknown;
  readonly minItems?: unknown;
  readonly maxItems?: unknown;
  readonly maxLength?: unknown;
}

const nouns: Readonly<Record<string, readonly [one: string, many: string]>> = {
  string: ['a string', 'strings'],
  number: ['a number', 'numbers'],
  integer: ['an integer', 'integers'],
  boolean: ['a boolean', 'booleans'],
  object: ['an object', 'objects'],
  array: ['a list', 'lists'],
  null: ['null', 'nulls'],
};

/** "an integer from 0 to 20", "a string or a list of strings (at most 16)"; "null" is left unsaid where something else fits. */
export function describeSchema(schema: SchemaShape, plural = false): string {
  if (schema.anyOf !== undefined) {
    const branches = schema.anyOf.filter(({ type }) => type !== 'null');
    return branches.map((branch) => describeSchema(branch, plural)).join(' or ');
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const noun = nouns[String(schema.type)]?.[plural ? 1 : 0] ?? (plural ? 'values' : 'any value');
  if (schema.type === 'array') {
    const inner = schema.items === undefined ? '' : ` of ${describeSchema(schema.items, true)}`;
    return `${noun}${inner}${schema.maxItems === undefined ? '' : ` (at most ${String(schema.maxItems)})`}`;
  }
  if (schema.maxLength !== undefined) return `${noun} (at most ${String(schema.maxLength)} characters)`;
  return noun + range(schema);
}

function range({ minimum, maximum }: SchemaShape): string {
  if (minimum !== undefined && maximum !== undefined) return ` from ${String(minimum)} to ${String(maximum)}`;
  if (minimum !== undefined) return ` of at least ${String(minimum)}`;
  return maximum === undefined ? '' : ` of at most ${String(maximum)}`;
}

/** What came instead, short whatever its size. */
export function describeValue(value: unknown): string {
  if (typeof value === 'string') return value.length > 40 ? `a string of ${value.length} characters` : `the string ${JSON.stringify(value)}`;
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value === null) return 'null';
  if (typeof value === 'object') return 'an object';
  return `${typeof value} ${String(value)}`;
}
