/** Whether a listed value (`enum`, `const`) also fulfils what stands beside the list: then it may be written. */
import { assertedFormats, formatPatterns } from './formats.ts';
import type { SchemaCompiler } from './json-schema.ts';
import { grammarUnsupported } from './limits.ts';
import { multipleAutomaton } from './number-multiple.ts';
import { boundsOf, isInside } from './number-range.ts';
import { parseRegex } from './regex.ts';
import { typeOfValue } from './schema-disjoint.ts';
import { asSchema, isObject, keywordTypes, type Schema, type SchemaObject, type TypeName, typeNames } from './schema-keywords.ts';
import { isForbidden, NOT_PATTERN } from './schema-negate.ts';
import { readsText, textAutomaton } from './text-language.ts';

/** Values within each other that are looked at. */
const MAX_DEPTH = 64;

/** A "no" may be said of a value that fits, where the schema is held to less than it says; never the other way round. @throws GRAMMAR_UNSUPPORTED */
export function fits(value: unknown, schema: SchemaObject, compiler: SchemaCompiler, path: string, depth = 0): boolean {
  if (depth > MAX_DEPTH) throw grammarUnsupported(`a listed value that is nested this deeply at ${path}`);
  if (isForbidden(value, schema)) return false;
  if (Array.isArray(schema.enum) && !schema.enum.some((one) => isSame(one, value))) return false;
  const type = typeOfValue(value);
  const types = schema.type === undefined ? typeNames : ([schema.type].flat() as TypeName[]);
  if (!types.includes(type) && !(type === 'number' && types.includes('integer') && Number.isInteger(value))) return false;
  if (!Object.keys(schema).some((keyword) => keywordTypes[keyword] === type)) return true;
  if (type === 'string') return fitsString(value as string, schema, compiler);
  if (type === 'number') return fitsNumber(value as number, schema, path);
  if (type === 'array') return fitsArray(value as unknown[], schema, compiler, path, depth);
  return fitsObject(value as SchemaObject, schema, compiler, path, depth);
}

function fitsAny(value: unknown, schema: Schema, compiler: SchemaCompiler, path: string, depth: number): boolean {
  return compiler.unionOf(schema, path).some((one) => fits(value, one, compiler, path, depth + 1));
}

/** Equal as JSON values: properties in any order. */
export function isSame(a: unknown, b: unknown): boolean {
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((item, i) => isSame(item, b[i]));
  if (!isObject(a)) return a === b;
  const names = Object.keys(a);
  return isObject(b) && names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && isSame(a[name], b[name]));
}

const isWithin = (count: number, min: unknown, max: unknown) =>
  count >= ((min ?? 0) as number) && count <= ((max ?? Number.POSITIVE_INFINITY) as number);

function fitsString(value: string, schema: SchemaObject, compiler: SchemaCompiler): boolean {
  if (!isWithin(Array.from(value).length, schema.minLength, schema.maxLength)) return false;
  const forbidden = (schema[NOT_PATTERN] ?? []) as readonly string[];
  if (forbidden.some((pattern) => compiler.reads(compiler.pattern(pattern), value))) return false;
  const patterns: readonly string[] = schema.pattern === undefined ? [] : ([schema.pattern].flat() as string[]);
  if (!patterns.every((pattern) => compiler.reads(compiler.pattern(pattern), value))) return false;
  const { format } = schema;
  if (typeof format !== 'string' || !assertedFormats.has(format)) return true;
  const known = Object.hasOwn(formatPatterns, format) ? formatPatterns[format] : undefined;
  if (known !== undefined && compiler.reads(textAutomaton(parseRegex(known)), value)) return true;
  throw grammarUnsupported(`the format ${JSON.stringify(format.slice(0, 100))} beside the listed value ${JSON.stringify(value.slice(0, 100))}`);
}

function fitsNumber(value: number, schema: SchemaObject, path: string): boolean {
  if (!isInside(value, boundsOf(schema))) return false;
  if (schema.multipleOf === undefined) return true;
  const written = String(value);
  if (/e/.test(written)) throw grammarUnsupported(`"multipleOf" beside the listed value ${written} at ${path}`);
  return ([schema.multipleOf].flat() as number[]).every((step) => readsText(multipleAutomaton(step, path), written));
}

function fitsArray(value: readonly unknown[], schema: SchemaObject, compiler: SchemaCompiler, path: string, depth: number): boolean {
  if (!isWithin(value.length, schema.minItems, schema.maxItems)) return false;
  if (schema.uniqueItems === true && value.some((item, i) => value.slice(0, i).some((other) => isSame(item, other)))) return false;
  if (schema.contains !== undefined && !value.some((item) => fitsAny(item, asSchema(schema.contains, path), compiler, path, depth))) return false;
  const prefix = (Array.isArray(schema.prefixItems) ? schema.prefixItems : []) as readonly unknown[];
  return value.every((item, i) => fitsAny(item, asSchema(i < prefix.length ? prefix[i] : (schema.items ?? true), path), compiler, path, depth));
}

function fitsObject(value: SchemaObject, schema: SchemaObject, compiler: SchemaCompiler, path: string, depth: number): boolean {
  const names = Object.keys(value);
  if (!isWithin(names.length, schema.minProperties, schema.maxProperties)) return false;
  if (!((schema.required ?? []) as readonly string[]).every((name) => Object.hasOwn(value, name))) return false;
  const declared = isObject(schema.properties) ? schema.properties : {};
  const patterns = isObject(schema.patternProperties) ? Object.entries(schema.patternProperties) : [];
  return names.every((name) => {
    if (schema.propertyNames !== undefined && !fitsAny(name, asSchema(schema.propertyNames, path), compiler, path, depth)) return false;
    const schemas = patterns.filter(([source]) => compiler.reads(compiler.pattern(source), name)).map(([, inner]) => inner);
    if (Object.hasOwn(declared, name)) schemas.push(declared[name]);
    if (schemas.length === 0) schemas.push(schema.additionalProperties ?? true);
    return schemas.every((inner) => fitsAny(value[name], asSchema(inner, path), compiler, path, depth));
  });
}
