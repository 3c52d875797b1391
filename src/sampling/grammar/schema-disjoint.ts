/** When no value can fulfil two schemas at once: what makes a `oneOf` an `anyOf`. A "no" means "not proven". */
import { asSchema, isObject, type Schema, type SchemaObject, type TypeName, typeNames } from './schema-keywords.ts';

/** @param plain the union that a schema comes to */
export function areDisjoint(a: SchemaObject, b: SchemaObject, plain: (schema: Schema) => readonly SchemaObject[], depth: number): boolean {
  const [x, y] = [allowedTypes(a), allowedTypes(b)];
  const common = typeNames.filter((type) => x.has(type) && y.has(type));
  if (common.length === 0) return true;
  if (Array.isArray(a.enum) && Array.isArray(b.enum)) {
    const texts = new Set(a.enum.map((value) => JSON.stringify(value)));
    return !b.enum.some((value) => texts.has(JSON.stringify(value)));
  }
  return common.every((type) => type === 'object' && areDisjointObjects(a, b, plain, depth));
}

/** A property that one requires and both constrain so that they exclude each other, or that the other forbids. */
function areDisjointObjects(a: SchemaObject, b: SchemaObject, plain: (schema: Schema) => readonly SchemaObject[], depth: number): boolean {
  if (depth > 4) return false;
  for (const [one, other] of [
    [a, b],
    [b, a],
  ]) {
    for (const name of Array.isArray(one.required) ? (one.required as string[]) : []) {
      const mine = propertySchema(one, name);
      const theirs = propertySchema(other, name);
      if (theirs === false || mine === false) return true;
      if (mine === true || theirs === true) continue;
      const [left, right] = [plain(mine), plain(theirs)];
      if (left.every((l) => right.every((r) => areDisjoint(l, r, plain, depth + 1)))) return true;
    }
  }
  return false;
}

/** What a value under this name must fulfil at least. */
function propertySchema(schema: SchemaObject, name: string): Schema {
  if (isObject(schema.properties) && Object.hasOwn(schema.properties, name)) return asSchema(schema.properties[name], name);
  return schema.additionalProperties !== false || schema.patternProperties !== undefined;
}

/** `integer` counts as `number`. Without `type` any type: a keyword says nothing about values of other types. */
function allowedTypes(schema: SchemaObject): ReadonlySet<TypeName> {
  if (Array.isArray(schema.enum)) return new Set(schema.enum.map(typeOfValue).filter((type) => isTyped(schema, type)));
  if (schema.type === undefined) return new Set(typeNames);
  return new Set([schema.type].flat().map((type) => (type === 'integer' ? 'number' : (type as TypeName))));
}

function isTyped(schema: SchemaObject, type: TypeName): boolean {
  return schema.type === undefined || [schema.type].flat().some((name) => name === type || (name === 'integer' && type === 'number'));
}

export function typeOfValue(value: unknown): TypeName {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value as TypeName;
}
