/** Objects: the named properties in the schema's order, then others whose names are none of these. */
import { type AutomatonEdge, choice, type Expression, empty, literal, repeat, sequence } from './expression.ts';
import type { SchemaCompiler } from './json-schema.ts';
import { grammarUnsupported, tooLarge } from './limits.ts';
import { asSchema, isObject, type Schema, type SchemaObject } from './schema-keywords.ts';
import { languageExpression, literalAutomaton, type TextAutomaton, type TextLanguage } from './text-language.ts';

/** Declared properties times the count of members, where that must be kept. */
const MAX_COUNTED = 4000;

interface Property {
  readonly key: Expression;
  readonly value: Expression;
  readonly isRequired: boolean;
}

interface KeyPattern {
  readonly source: string;
  readonly automaton: TextAutomaton;
  readonly schema: Schema;
}

/** @throws GRAMMAR_UNSUPPORTED for more properties than are declared, GRAMMAR_TOO_LARGE */
export function objectExpression(schema: SchemaObject, compiler: SchemaCompiler, path: string): Expression {
  const declared = isObject(schema.properties) ? schema.properties : {};
  const required = new Set((schema.required ?? []) as readonly string[]);
  const additional = asSchema(schema.additionalProperties ?? true, `${path}/additionalProperties`);
  const patterns = keyPatterns(schema, compiler, path);
  const naming = namesLanguage(schema, compiler, path);
  const names = [...Object.keys(declared), ...[...required].filter((name) => !Object.hasOwn(declared, name))];
  const properties = names.map((name): Property => {
    const schemas = patterns.filter(({ automaton }) => compiler.reads(automaton, name)).map((pattern) => pattern.schema);
    if (Object.hasOwn(declared, name)) schemas.unshift(asSchema(declared[name], `${path}/properties/${name}`));
    if (schemas.length === 0) schemas.push(additional);
    if (!isNameAllowed(name, naming, compiler)) schemas.splice(0, schemas.length, false);
    const [one] = schemas;
    const value = compiler.value(schemas.length === 1 ? one : { allOf: schemas }, `${path}/properties/${name}`);
    return { key: literal(JSON.stringify(name)), value, isRequired: required.has(name) };
  });
  const others = otherMembers(names, additional, patterns, compiler, path, naming);
  const counts = countsOf(schema, properties, others.length > 0);
  if (counts.isCounted) return sequence(literal('{'), countedMembers(properties, others, compiler, counts, path), literal('}'));
  return sequence(literal('{'), members(properties, choice(...others), compiler, counts.min > 0, counts.mostOthers), literal('}'));
}

function keyPatterns(schema: SchemaObject, compiler: SchemaCompiler, path: string): KeyPattern[] {
  const given = isObject(schema.patternProperties) ? Object.entries(schema.patternProperties) : [];
  return given.map(([source, value]) => ({
    source,
    automaton: compiler.pattern(source),
    schema: asSchema(value, `${path}/patternProperties/${source}`),
  }));
}

/** What `propertyNames` makes of the names: a string's patterns and lengths, or a list. */
function namesLanguage(schema: SchemaObject, compiler: SchemaCompiler, path: string): TextLanguage {
  if (schema.propertyNames === undefined || schema.propertyNames === true) return { all: [] };
  const where = `${path}/propertyNames`;
  const union = compiler.unionOf(asSchema(schema.propertyNames, where), where);
  const [only] = union;
  if (union.length === 0) return { all: [literalAutomaton([])] };
  const known = ['type', 'pattern', 'minLength', 'maxLength', 'enum'];
  if (union.length > 1 || only === undefined || Object.keys(only).some((keyword) => !known.includes(keyword)))
    throw grammarUnsupported(`the keyword "propertyNames" with more than a pattern, lengths or a list at ${path}`);
  const all = [only.pattern ?? []].flat().map((source) => compiler.pattern(String(source)));
  if (Array.isArray(only.enum)) all.push(literalAutomaton(only.enum.filter((name) => typeof name === 'string')));
  return {
    all,
    ...(typeof only.minLength === 'number' ? { minLength: only.minLength } : {}),
    ...(typeof only.maxLength === 'number' ? { maxLength: only.maxLength } : {}),
  };
}

function isNameAllowed(name: string, { all, minLength = 0, maxLength = Number.POSITIVE_INFINITY }: TextLanguage, compiler: SchemaCompiler): boolean {
  const { length } = Array.from(name);
  return length >= minLength && length <= maxLength && all.every((automaton) => compiler.reads(automaton, name));
}

/** Members with names that are not declared, one alternative for each pattern and one for the rest. */
function otherMembers(
  names: readonly string[],
  additional: Schema,
  patterns: readonly KeyPattern[],
  compiler: SchemaCompiler,
  path: string,
  naming: TextLanguage,
): Expression[] {
  const { json } = compiler;
  const declared = names.length > 0 ? [literalAutomaton(names)] : [];
  const member = (all: readonly TextAutomaton[], none: readonly TextAutomaton[], value: Expression, where: string) => {
    const make = () =>
      languageExpression(
        { ...naming, all: [...naming.all, ...all], none: [...declared, ...none] },
        (set) => json.spell(set),
        `the names of the properties at ${where}`,
      );
    const isPlain = all.length + none.length + naming.all.length === 0 && naming.minLength === undefined && naming.maxLength === undefined;
    const text = isPlain ? compiler.otherNames(names, make) : make();
    const isAny =
      all.length + none.length + declared.length + naming.all.length === 0 && naming.minLength === undefined && naming.maxLength === undefined;
    const key = isAny ? json.string : sequence(literal('"'), text, literal('"'));
    return sequence(key, json.colon, value);
  };
  const members: Expression[] = [];
  for (const pattern of patterns) {
    if (pattern.schema === false) continue;
    const where = `${path}/patternProperties/${pattern.source}`;
    const othersOf = patterns.filter((other) => other !== pattern).map(({ automaton }) => automaton);
    members.push(member([pattern.automaton], othersOf, compiler.value(pattern.schema, where), where));
  }
  if (additional !== false) {
    const where = `${path}/additionalProperties`;
    members.push(
      member(
        [],
        patterns.map(({ automaton }) => automaton),
        compiler.value(additional, where),
        where,
      ),
    );
  }
  return members;
}

interface MemberCounts {
  readonly min: number;
  readonly max: number;
  readonly mostOthers: number;
  /** Whether members must be counted as they are written. */
  readonly isCounted: boolean;
}

function countsOf(schema: SchemaObject, properties: readonly Property[], hasOthers: boolean): MemberCounts {
  const numRequired = properties.filter(({ isRequired }) => isRequired).length;
  const min = typeof schema.minProperties === 'number' ? schema.minProperties : 0;
  const max = typeof schema.maxProperties === 'number' ? schema.maxProperties : Number.POSITIVE_INFINITY;
  const isBounded = max < properties.length + (hasOthers ? Number.POSITIVE_INFINITY : 0);
  const mostOthers = isBounded ? max - properties.length : Number.POSITIVE_INFINITY;
  return { min, max: isBounded ? max : Number.POSITIVE_INFINITY, mostOthers, isCounted: min > Math.max(1, numRequired) || max < properties.length };
}

/** The same rows as of `members`, once for each number of members that are there; a name may come twice among the others, so that they count as one. */
function countedMembers(
  properties: readonly Property[],
  others: readonly Expression[],
  compiler: SchemaCompiler,
  counts: MemberCounts,
  path: string,
): Expression {
  const { min, max } = counts;
  const { json } = compiler;
  const n = properties.length;
  // beyond this the count does not matter
  const cap = max === Number.POSITIVE_INFINITY ? min : Math.min(max, n + 1);
  const numCounts = cap + 1;
  if ((n + 1) * numCounts > MAX_COUNTED)
    throw tooLarge(`the "minProperties" or "maxProperties" at ${path}`, `at most ${MAX_COUNTED} properties times count`, `${n} x ${cap}`);
  if (min > n + (others.length > 0 ? 1 : 0))
    throw grammarUnsupported(`the keyword "minProperties" with ${min} at ${path}, above the number of declared properties`);
  const before = (i: number, count: number) => 1 + i * numCounts + count;
  const behind = (i: number, count: number) => 1 + (n + 1 + i) * numCounts + count;
  const end = 1 + 2 * (n + 1) * numCounts;
  const edges: AutomatonEdge[][] = Array.from({ length: end + 1 }, () => []);
  const lastRequired = properties.findLastIndex(({ isRequired }) => isRequired);
  for (let count = 0; count < numCounts; count++) {
    const next = Math.min(count + 1, cap);
    for (let i = 0; i <= n; i++) {
      if (i > lastRequired && count >= min) edges[behind(i, count)].push({ label: empty, target: end });
      if (count >= max) continue;
      edges[behind(i, count)].push({ label: json.comma, target: before(i, count) });
      if (i === n) continue;
      const { key, value, isRequired } = properties[i];
      edges[before(i, count)].push({ label: sequence(key, json.colon, value), target: behind(i + 1, next) });
      if (!isRequired) edges[before(i, count)].push({ label: empty, target: before(i + 1, count) });
    }
    if (others.length === 0 || count >= max || count + 1 < min) continue;
    const other = choice(...others);
    edges[before(n, count)].push({ label: sequence(other, repeat(sequence(json.comma, other), 0, max - count - 1)), target: end });
  }
  edges[0].push({ label: empty, target: before(0, 0) });
  if (lastRequired < 0 && min === 0) edges[0].push({ label: empty, target: end });
  return { kind: 'states', states: edges.map((list, i) => ({ isEnd: i === end, edges: list })) };
}

/**
 * Two rows of states: where a member must come (behind the brace or a comma), and behind a member. So commas stand between members only, and one
 * comma serves all members that may follow it.
 */
function members(properties: readonly Property[], other: Expression, { json }: SchemaCompiler, isNonEmpty: boolean, mostOthers: number): Expression {
  const n = properties.length;
  const before = (i: number) => i + 1;
  const behind = (i: number) => n + 2 + i;
  const end = 2 * n + 3;
  const edges: AutomatonEdge[][] = Array.from({ length: 2 * n + 4 }, () => []);
  const hasOthers = mostOthers > 0 && !(other.kind === 'choice' && other.alternatives.length === 0);
  let mayEnd = true;
  for (let i = n; i >= 0; i--) {
    edges[behind(i)].push({ label: json.comma, target: before(i) });
    if (i === n) {
      if (hasOthers) edges[before(n)].push({ label: sequence(other, repeat(sequence(json.comma, other), 0, mostOthers - 1)), target: end });
    } else {
      const { key, value, isRequired } = properties[i];
      edges[before(i)].push({ label: sequence(key, json.colon, value), target: behind(i + 1) });
      if (isRequired) mayEnd = false;
      else edges[before(i)].push({ label: empty, target: before(i + 1) });
    }
    if (mayEnd) edges[behind(i)].push({ label: empty, target: end });
  }
  edges[0].push({ label: empty, target: before(0) });
  if (mayEnd && !isNonEmpty) edges[0].push({ label: empty, target: end });
  return { kind: 'states', states: edges.map((list, i) => ({ isEnd: i === end, edges: list })) };
}
