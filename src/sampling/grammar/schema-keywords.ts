/** What a JSON Schema may say, keyword by keyword. What is not enforced is refused: a schema is a promise to the caller. */
import { grammarInvalid, grammarUnsupported } from './limits.ts';

/** A schema as parsed from JSON. */
export type Schema = boolean | SchemaObject;
export type SchemaObject = { readonly [keyword: string]: unknown };

export type TypeName = 'object' | 'array' | 'string' | 'number' | 'integer' | 'boolean' | 'null';

export const typeNames: readonly TypeName[] = ['object', 'array', 'string', 'number', 'boolean', 'null'];

/** Keyword -> type that it speaks about. A schema without `type` is read as being of the types that its keywords speak about. */
export const keywordTypes: Readonly<Record<string, TypeName>> = {
  properties: 'object',
  required: 'object',
  additionalProperties: 'object',
  patternProperties: 'object',
  minProperties: 'object',
  maxProperties: 'object',
  items: 'array',
  prefixItems: 'array',
  contains: 'array',
  additionalItems: 'array',
  minItems: 'array',
  maxItems: 'array',
  minLength: 'string',
  maxLength: 'string',
  pattern: 'string',
  format: 'string',
  '!pattern': 'string',
  propertyNames: 'object',
  multipleOf: 'number',
  minimum: 'number',
  maximum: 'number',
  exclusiveMinimum: 'number',
  exclusiveMaximum: 'number',
};

/** Enforced besides these: what `schema-union.ts` resolves. */
const combining = [
  ...['$ref', 'allOf', 'anyOf', 'oneOf', 'type', 'enum', 'const'],
  ...['not', 'if', 'then', 'else', 'dependencies', 'dependentRequired', 'dependentSchemas'],
];

/** Assert something that is not enforced. */
const unsupported: ReadonlySet<string> = new Set([
  'minContains',
  'maxContains',
  'uniqueItems',
  'divisibleBy',
  'unevaluatedProperties',
  'unevaluatedItems',
  'contentEncoding',
  'contentMediaType',
  'contentSchema',
  '$dynamicRef',
  '$recursiveRef',
  'disallow',
  'extends',
  'propertyDependencies',
]);

/** Values of such keywords that assert nothing. */
function saysNothing(keyword: string, value: unknown, schema: SchemaObject): boolean {
  if (keyword === 'uniqueItems') return value === false || (typeof schema.maxItems === 'number' && schema.maxItems <= 1);
  if (keyword === 'minContains' || keyword === 'maxContains') return !Object.hasOwn(schema, 'contains') || (keyword === 'minContains' && value === 1);
  if (keyword.startsWith('unevaluated')) return value === true || (keyword === 'unevaluatedProperties' && isAlone(schema));
  if (keyword.startsWith('content')) return true; // annotations by the specification
  return false;
}

/** Nothing beside it evaluates properties in its place: then it is `additionalProperties` by another name. */
function isAlone(schema: SchemaObject): boolean {
  return !['$ref', '$dynamicRef', 'allOf', 'anyOf', 'oneOf', 'not', 'if', 'dependentSchemas', 'dependencies'].some((keyword) => keyword in schema);
}

export function isObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @throws GRAMMAR_INVALID when it is neither an object nor a boolean */
export function asSchema(value: unknown, path: string): Schema {
  if (typeof value === 'boolean' || isObject(value)) return value;
  throw grammarInvalid(`The schema at ${path} is neither an object nor true or false.`);
}

/** The asserting keywords of one schema object, checked; annotations and unknown words are left out, as the specification has it. */
export function assertions(schema: SchemaObject, path: string): SchemaObject {
  const kept: Record<string, unknown> = {};
  if (schema.unevaluatedProperties !== undefined && schema.additionalProperties === undefined && isAlone(schema))
    kept.additionalProperties = schema.unevaluatedProperties;
  for (const [keyword, value] of Object.entries(schema)) {
    if (unsupported.has(keyword) && !saysNothing(keyword, value, schema))
      throw grammarUnsupported(`the keyword ${JSON.stringify(keyword)} at ${path}`);
    // words with a mark are ours: nobody else may say them
    if (keyword.startsWith('!') || (keywordTypes[keyword] === undefined && !combining.includes(keyword))) continue;
    checkKeyword(keyword, value, `${path}/${keyword}`);
    kept[keyword] = value;
  }
  return tidied(kept, path);
}

/** Older spellings as today's: boolean exclusive bounds, lists as `items`, `const`. */
function tidied(kept: Record<string, unknown>, path: string): SchemaObject {
  for (const [bound, exclusive] of [
    ['minimum', 'exclusiveMinimum'],
    ['maximum', 'exclusiveMaximum'],
  ] as const) {
    if (typeof kept[exclusive] !== 'boolean') continue;
    if (kept[exclusive] === true && kept[bound] !== undefined) {
      kept[exclusive] = kept[bound];
      delete kept[bound];
    } else delete kept[exclusive];
  }
  tidyDependencies(kept);
  if (typeof kept.if !== 'boolean' && kept.if === undefined) {
    delete kept.then;
    delete kept.else;
  }
  if (Array.isArray(kept.items)) {
    if (kept.prefixItems !== undefined) throw grammarInvalid(`The schema at ${path} has a list as items beside prefixItems.`);
    kept.prefixItems = kept.items;
    kept.items = kept.additionalItems ?? true;
  }
  delete kept.additionalItems;
  if (Object.hasOwn(kept, 'const')) {
    const constant = JSON.stringify(kept.const);
    const isAmongEnum = !Array.isArray(kept.enum) || kept.enum.some((value) => JSON.stringify(value) === constant);
    kept.enum = isAmongEnum ? [kept.const] : [];
    delete kept.const;
  }
  return kept;
}

/** The older `dependencies` says both. */
function tidyDependencies(kept: Record<string, unknown>): void {
  if (!isObject(kept.dependencies)) return;
  const entries = Object.entries(kept.dependencies).map(([name, needed]) => [name, typeof needed === 'string' ? [needed] : needed] as const);
  const lists = entries.filter(([, needed]) => Array.isArray(needed));
  const schemas = entries.filter(([, needed]) => !Array.isArray(needed));
  kept.dependentRequired = { ...(kept.dependentRequired ?? {}), ...Object.fromEntries(lists) };
  kept.dependentSchemas = { ...(kept.dependentSchemas ?? {}), ...Object.fromEntries(schemas) };
  delete kept.dependencies;
}

const isCount = (value: unknown) => typeof value === 'number' && Number.isInteger(value) && value >= 0;
const isNumber = (value: unknown) => typeof value === 'number' && Number.isFinite(value);
const isTypeName = (value: unknown) => typeof value === 'string' && (typeNames.includes(value as TypeName) || value === 'integer');
const isList = (value: unknown) => Array.isArray(value);

const shapes: Readonly<Record<string, readonly [expected: string, fits: (value: unknown) => boolean]>> = {
  type: ['a type name or a list of them', (value) => isTypeName(value) || (Array.isArray(value) && value.length > 0 && value.every(isTypeName))],
  enum: ['a list', isList],
  allOf: ['a list', isList],
  anyOf: ['a list', isList],
  oneOf: ['a list', isList],
  dependencies: ['an object', isObject],
  dependentRequired: ['an object', isObject],
  dependentSchemas: ['an object', isObject],
  multipleOf: ['a number above 0', (value) => isNumber(value) && Number(value) > 0],
  prefixItems: ['a list', isList],
  $ref: ['a string', (value) => typeof value === 'string'],
  pattern: ['a string', (value) => typeof value === 'string'],
  format: ['a string', (value) => typeof value === 'string'],
  properties: ['an object', isObject],
  patternProperties: ['an object', isObject],
  required: ['a list of strings', (value) => Array.isArray(value) && value.every((name) => typeof name === 'string')],
  minLength: ['a count', isCount],
  maxLength: ['a count', isCount],
  minItems: ['a count', isCount],
  maxItems: ['a count', isCount],
  minProperties: ['a count', isCount],
  maxProperties: ['a count', isCount],
  minimum: ['a number', isNumber],
  maximum: ['a number', isNumber],
  exclusiveMinimum: ['a number', (value) => isNumber(value) || typeof value === 'boolean'],
  exclusiveMaximum: ['a number', (value) => isNumber(value) || typeof value === 'boolean'],
};

function checkKeyword(keyword: string, value: unknown, path: string): void {
  const shape = shapes[keyword];
  if (shape === undefined || shape[1](value)) return;
  throw grammarInvalid(`The schema's ${path} must be ${shape[0]}.`);
}

/** Whether nothing is asserted. */
export function isTrivial(schema: SchemaObject): boolean {
  return Object.keys(schema).length === 0;
}
