/** Values between quote tags instead of quotes, with keys that stand bare: how FunctionGemma and Gemma 4 write arguments. */
import type { OutputReader, Parsing } from '../output-reader.ts';
import { either, json, type Syntax, type SyntaxWriter, sequence } from '../output-syntax.ts';
import type { ToolDefinition } from './format.ts';
import { isSchema, type ParameterSyntax, parametersOf, taggedValue, typesOf } from './parameter-syntax.ts';
import { separated } from './python-syntax.ts';

const MAX_DEPTH = 100;
/** A value that is none of the format. */
export const malformed = Symbol('malformed');

const words: Readonly<Record<string, unknown>> = { true: true, false: false, null: null, True: true, False: false, None: null };

/** Reads one value, after white space. @returns `malformed` also when the output ends before */
export function* readGemmaValue(reader: OutputReader, quote: string, depth = 0): Parsing<unknown> {
  if (depth > MAX_DEPTH) return malformed;
  if (yield* reader.acceptTag(quote)) return (yield* reader.textUntil([quote]))?.text ?? malformed;
  if (yield* reader.accept('{')) return yield* readObject(reader, quote, depth);
  if (yield* reader.accept('[')) return yield* readList(reader, quote, depth);
  const bare = yield* reader.textUntil([',', '}', ']']);
  if (bare === null) return malformed;
  reader.unread(bare.tag);
  const text = bare.text.trim();
  if (Object.hasOwn(words, text)) return words[text];
  const number = Number(text);
  return text === '' || !Number.isFinite(number) ? malformed : number;
}

function* readObject(reader: OutputReader, quote: string, depth: number): Parsing<unknown> {
  const entries: [string, unknown][] = [];
  if (yield* reader.accept('}')) return {};
  for (;;) {
    const entry = yield* readGemmaEntry(reader, quote, depth + 1);
    if (entry === null) return malformed;
    entries.push(entry);
    if (yield* reader.accept(',')) continue;
    return (yield* reader.accept('}')) ? Object.fromEntries(entries) : malformed;
  }
}

function* readList(reader: OutputReader, quote: string, depth: number): Parsing<unknown> {
  const items: unknown[] = [];
  if (yield* reader.accept(']')) return items;
  for (;;) {
    const item = yield* readGemmaValue(reader, quote, depth + 1);
    if (item === malformed) return malformed;
    items.push(item);
    if (yield* reader.accept(',')) continue;
    return (yield* reader.accept(']')) ? items : malformed;
  }
}

/** `key:value`, the key bare or between quote tags. */
export function* readGemmaEntry(reader: OutputReader, quote: string, depth = 0): Parsing<[string, unknown] | null> {
  const quoted = (yield* reader.acceptTag(quote)) ? yield* reader.textUntil([quote]) : null;
  const bare = yield* reader.textUntil([':']);
  if (bare === null) return null;
  const value = yield* readGemmaValue(reader, quote, depth);
  return value === malformed ? null : [quoted?.text ?? bare.text.trim(), value];
}

/** The arguments of a tool between braces, as a grammar. @returns null where the format cannot be held to the schema */
export function gemmaArguments(write: SyntaxWriter, quote: string, tool: ToolDefinition): Syntax | null {
  const given = parametersOf(tool);
  if (given === null || given.some(({ name }) => !/^[^\s:,{}[\]<>|"]+$/.test(name))) return null;
  const entries = given.map((parameter) => {
    const value = valueSyntax(write, quote, parameter);
    return value === null ? null : { element: sequence(write.text(`${parameter.name}:`), value), isRequired: parameter.isRequired };
  });
  if (entries.includes(null)) return null;
  const body = separated(
    entries.filter((entry) => entry !== null),
    write.text(','),
  );
  return body === null ? null : sequence(write.text('{'), body, write.text('}'));
}

function valueSyntax(write: SyntaxWriter, quote: string, parameter: ParameterSyntax): Syntax | null {
  const { schema, rooted } = parameter;
  const [type, second] = typesOf(schema);
  if (type === undefined || second !== undefined) return null;
  if (type === 'string') {
    const text = taggedValue(parameter, quote, write);
    return text === null ? null : sequence(write.text(quote), text, write.text(quote));
  }
  if (type === 'object') return gemmaArguments(write, quote, { name: '', parameters: rooted });
  if (type === 'array') {
    const item = isSchema(schema.items) ? valueSyntax(write, quote, { ...parameter, schema: schema.items, rooted: schema.items }) : null;
    if (item === null || ['minItems', 'maxItems', 'uniqueItems', 'contains', 'prefixItems'].some((word) => word in schema)) return null;
    const more = { type: 'repeat', element: sequence(write.text(','), item) };
    return sequence(write.text('['), either(sequence(item, more), write.text('')), write.text(']'));
  }
  const isPlain = !['enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref'].some((word) => word in schema);
  return isPlain ? json(rooted) : null;
}
