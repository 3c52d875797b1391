/**
 * What a schema does not allow, as schemas: `not`, `if`, `oneOf` whose branches overlap, and the dependencies between properties come to this.
 * Each schema of the result excludes the given one; together they may be less than all that it excludes (a promise is kept, some values are
 * just never written), and where nothing is left the keyword is refused.
 */
import { grammarUnsupported } from './limits.ts';
import { typeOfValue } from './schema-disjoint.ts';
import { asSchema, isObject, type Schema, type SchemaObject, type TypeName, typeNames } from './schema-keywords.ts';

/** What the union of the document can do for a negation. */
export interface Unions {
  assertionsOf(schema: SchemaObject, path: string): SchemaObject;
  resolve(ref: string): Schema;
  plain(schema: Schema, path: string, depth: number): SchemaObject[];
  cross(a: readonly SchemaObject[], b: readonly SchemaObject[], depth: number): SchemaObject[];
}

/** Keywords of ours, which no schema can say: values and patterns that a value must not be. */
export const NOT_ENUM = '!enum';
export const NOT_PATTERN = '!pattern';

/** @throws GRAMMAR_UNSUPPORTED where nothing that the schema excludes can be said */
export function excluded(schema: Schema, path: string, unions: Unions, depth: number): SchemaObject[] {
  if (typeof schema === 'boolean') return schema ? [] : [{}];
  if (depth > 32) throw grammarUnsupported(`a negation at ${path} that is nested this deeply`);
  const own = unions.assertionsOf(schema, path);
  if (Object.keys(own).length === 0) return [];
  const found = Object.entries(own).flatMap(([keyword, value]) => {
    const combined = ofCombining(keyword, value, own, path, unions, depth + 1);
    return combined ?? ofKeyword(keyword, value);
  });
  if (found.length === 0) throw grammarUnsupported(`the opposite of the schema at ${path}`);
  return found;
}

function ofCombining(keyword: string, value: unknown, own: SchemaObject, path: string, unions: Unions, depth: number): SchemaObject[] | null {
  const inner = (schema: unknown, where: string) => excluded(asSchema(schema, where), where, unions, depth);
  const list = () => (value as unknown[]).map((one, i) => [one, `${path}/${keyword}/${i}`] as const);
  switch (keyword) {
    case '$ref':
      return inner(unions.resolve(value as string), value as string);
    case 'allOf':
      return list().flatMap(([one, where]) => tried(() => inner(one, where)));
    case 'anyOf':
    case 'oneOf':
      return list().reduce<SchemaObject[]>((union, [one, where]) => unions.cross(union, inner(one, where), depth), [{}]);
    case 'not':
      return unions.plain(asSchema(value, path), `${path}/not`, depth);
    case 'if': {
      const [then, otherwise] = [asSchema(own.then ?? true, path), asSchema(own.else ?? true, path)];
      const condition = asSchema(value, path);
      return [
        ...tried(() => unions.cross(unions.plain(condition, `${path}/if`, depth), inner(then, `${path}/then`), depth)),
        ...tried(() => unions.cross(inner(condition, `${path}/if`), inner(otherwise, `${path}/else`), depth)),
      ];
    }
    case 'dependentRequired':
    case 'dependentSchemas':
      return Object.entries(value as object).flatMap(([name, needed]) => {
        const schema: unknown = Array.isArray(needed) ? { required: needed } : needed;
        return tried(() => unions.cross([{ type: 'object', required: [name] }], inner(schema, `${path}/${keyword}/${name}`), depth));
      });
    default:
      return null;
  }
}

/** An alternative that cannot be said is left out. */
function tried(make: () => SchemaObject[]): SchemaObject[] {
  try {
    return make();
  } catch {
    return [];
  }
}

function ofKeyword(keyword: string, value: unknown): SchemaObject[] {
  const count = Number(value);
  switch (keyword) {
    case 'type':
      return ofTypes(typeNames.filter((type) => !isAmong(type, value)));
    case 'enum':
      return withoutValues(value as unknown[]);
    case 'required':
      return (value as string[]).map((name) => ({ type: 'object', properties: { [name]: false } }));
    case 'properties':
      return Object.entries(value as object).flatMap(([name, schema]) =>
        schema === true ? [] : [{ type: 'object', required: [name], properties: { [name]: { not: schema as Schema } } }],
      );
    case 'pattern':
      return [value].flat().map((pattern) => ({ type: 'string', [NOT_PATTERN]: [pattern] }));
    case 'minLength':
      return count > 0 ? [{ type: 'string', maxLength: count - 1 }] : [];
    case 'maxLength':
      return [{ type: 'string', minLength: count + 1 }];
    case 'minItems':
      return count > 0 ? [{ type: 'array', maxItems: count - 1 }] : [];
    case 'maxItems':
      return [{ type: 'array', minItems: count + 1 }];
    case 'contains':
      return [{ type: 'array', items: { not: value } }];
    case 'prefixItems':
      return (value as unknown[]).map((item, i) => ({
        type: 'array',
        minItems: i + 1,
        prefixItems: [...Array.from({ length: i }, () => true), { not: item }],
      }));
    case 'minProperties':
      return count === 1 ? [{ type: 'object', maxProperties: 0 }] : [];
    case 'maxProperties':
      return count === 0 ? [{ type: 'object', minProperties: 1 }] : [];
    case 'minimum':
      return [{ type: 'number', exclusiveMaximum: value }];
    case 'maximum':
      return [{ type: 'number', exclusiveMinimum: value }];
    case 'exclusiveMinimum':
      return [{ type: 'number', maximum: value }];
    case 'exclusiveMaximum':
      return [{ type: 'number', minimum: value }];
    default:
      return []; // what an array or object holds would have to be searched through
  }
}

/** Numbers that are no integers cannot be said. */
function isAmong(type: TypeName, types: unknown): boolean {
  const list = [types].flat();
  return list.includes(type) || (type === 'number' && list.includes('integer'));
}

function ofTypes(types: readonly TypeName[]): SchemaObject[] {
  return types.length === 0 ? [] : [{ type: types }];
}

function withoutValues(values: readonly unknown[]): SchemaObject[] {
  const present = new Set(values.map(typeOfValue));
  const rest = ofTypes(typeNames.filter((type) => !present.has(type)));
  const strings = values.filter((value) => typeof value === 'string');
  if (strings.length > 0) rest.push({ type: 'string', [NOT_ENUM]: strings });
  const numbers = values.filter((value) => typeof value === 'number');
  if (numbers.length > 0) rest.push({ type: 'integer', [NOT_ENUM]: numbers });
  const isBoth = values.includes(true) && values.includes(false);
  if (present.has('boolean') && !isBoth) rest.push({ enum: [!values.includes(true)] });
  return rest;
}

/** Whether a listed value is one of those that it must not be. */
export function isForbidden(value: unknown, schema: SchemaObject): boolean {
  if (!isObject(schema) || schema[NOT_ENUM] === undefined) return false;
  return (schema[NOT_ENUM] as unknown[]).some((other) => other === value);
}
