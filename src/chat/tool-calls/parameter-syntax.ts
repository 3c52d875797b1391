/** Arguments that a format writes one by one: what a grammar can hold each to, so that the parser reads back what the schema allows. */
import { either, json, pattern, type Syntax, type SyntaxWriter } from '../output-syntax.ts';
import type { ToolDefinition } from './format.ts';

export interface ParameterSyntax {
  readonly name: string;
  readonly isRequired: boolean;
  readonly schema: Schema;
  /** The schema as the root of a document: what it refers to is with it. */
  readonly rooted: Schema;
}

export type Schema = Readonly<Record<string, unknown>>;

/** Words that say nothing about a value. */
const annotations: ReadonlySet<string> = new Set(['type', 'title', 'description', 'default', 'examples', '$comment', 'deprecated', 'nullable']);
const rootWords: ReadonlySet<string> = new Set([
  ...annotations,
  ...['properties', 'required', 'additionalProperties', '$defs', 'definitions', '$schema', '$id', 'strict'],
]);

/** @returns the declared parameters in their order; null for a schema that is more than a list of properties */
export function parametersOf({ parameters = {} }: ToolDefinition): readonly ParameterSyntax[] | null {
  const { type = 'object', properties = {}, required = [], additionalProperties, $defs, definitions } = parameters;
  if (Object.keys(parameters).some((word) => !rootWords.has(word)) || type !== 'object') return null;
  if (!isSchema(properties) || !Array.isArray(required)) return null;
  if (required.some((name) => !Object.hasOwn(properties, String(name)))) return null;
  // an object of anything has no parameters to write one by one
  if (Object.keys(properties).length === 0 && additionalProperties !== false && parameters.properties === undefined && 'type' in parameters)
    return null;
  const found: ParameterSyntax[] = [];
  for (const [name, given] of Object.entries(properties)) {
    const schema = given === true ? {} : given;
    if (!isSchema(schema) || !refersToDefinitions(schema)) return null;
    const rooted = { ...schema, ...($defs === undefined ? {} : { $defs }), ...(definitions === undefined ? {} : { definitions }) };
    found.push({ name, isRequired: required.includes(name), schema, rooted });
  }
  return found;
}

/**
 * A value between tags: text where the parser takes text for a string, else JSON.
 * @param close the tag behind it, which text must not hold
 * @returns null where the format cannot be held to the schema
 */
export function taggedValue({ schema, rooted }: ParameterSyntax, close: string, write: SyntaxWriter): Syntax | null {
  const types = typesOf(schema);
  const words = Object.keys(schema).filter((word) => !annotations.has(word));
  const isText = types.length === 1 && types[0] === 'string';
  if (isText) return textValue(schema, words, close, write);
  if (types.length > 0 && !types.includes('string')) return '$ref' in schema ? null : json(rooted);
  // any text is a value: one that reads as JSON of an allowed type is that, and everything else a string
  if (words.length > 0 || types.some((type) => type === 'integer' || type === 'object' || type === 'array')) return null;
  return write.free(close);
}

function textValue(schema: Schema, words: readonly string[], close: string, write: SyntaxWriter): Syntax | null {
  const { minLength = 0, maxLength } = schema;
  const listed = 'const' in schema ? [schema.const] : schema.enum;
  if (Array.isArray(listed)) {
    if (words.some((word) => word !== 'enum' && word !== 'const')) return null;
    const texts = listed.filter((text): text is string => typeof text === 'string');
    if (texts.length !== listed.length || texts.some((text) => text.includes(close) || /^\n|\n$/.test(text) || text === '')) return null;
    return either(...texts.map((value): Syntax => ({ type: 'const_string', value })));
  }
  if (words.length === 0) return write.free(close);
  if (words.some((word) => word !== 'minLength' && word !== 'maxLength')) return null;
  // without the beginning of a tag, and without the line breaks that the format trims
  const bounds = `{${String(minLength)},${maxLength === undefined ? '' : String(maxLength)}}`;
  return pattern(`[^<\\n]${bounds}`);
}

export function typesOf({ type }: Schema): readonly string[] {
  if (type === undefined) return [];
  return Array.isArray(type) ? type.map(String) : [String(type)];
}

export function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Whether all references are to definitions, which go with each parameter. */
function refersToDefinitions(schema: unknown): boolean {
  if (Array.isArray(schema)) return schema.every(refersToDefinitions);
  if (!isSchema(schema)) return true;
  return Object.entries(schema).every(([word, value]) =>
    word === '$ref' ? typeof value === 'string' && /^#\/(\$defs|definitions)\//.test(value) : refersToDefinitions(value),
  );
}
