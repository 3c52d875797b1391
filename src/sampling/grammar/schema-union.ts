/** A schema with references and combining keywords as a union of plain ones: `allOf` merged, `anyOf` and `oneOf` spread out. */
import { MillraceError } from '../../base/errors.ts';
import { grammarInvalid, grammarLimits, grammarUnsupported, spendWork, tooLarge } from './limits.ts';
import { areDisjoint } from './schema-disjoint.ts';
import { asSchema, assertions, isObject, isTrivial, type Schema, type SchemaObject, type TypeName, typeNames } from './schema-keywords.ts';
import { excluded, NOT_ENUM, NOT_PATTERN, type Unions } from './schema-negate.ts';

/** Asserting keywords only, without combining ones; `{ $ref }` alone stands for another schema. */
export type PlainSchema = SchemaObject;

/** Schemas worked at within each other. */
const MAX_OPEN = 200;

export class SchemaUnions {
  readonly #root: Schema;
  readonly #anchors = new Map<string, Schema>();
  readonly #rootId: string;
  #work = 0;
  #numOpen = 0;
  #numMerged = 0;
  readonly #forNegation: Unions = {
    assertionsOf: (schema, path) => {
      this.#countWork();
      return assertions(schema, path);
    },
    resolve: (ref) => this.resolve(ref),
    plain: (schema, path, depth) => this.plain(schema, path, depth),
    cross: (a, b, depth) => this.#cross(a, b, depth),
  };
  readonly #pairs = new Map<Schema, Map<Schema, Schema>>();

  constructor(root: Schema) {
    this.#root = root;
    const id = isObject(root) ? (root.$id ?? root.id) : undefined;
    this.#rootId = typeof id === 'string' ? id.replace(/#$/, '') : '';
    this.#findAnchors(root, 0);
  }

  /** @throws GRAMMAR_UNSUPPORTED for one outside the document, GRAMMAR_INVALID for one that leads nowhere */
  resolve(ref: string): Schema {
    const hash = ref.indexOf('#');
    const document = hash < 0 ? ref : ref.slice(0, hash);
    const fragment = hash < 0 ? '' : ref.slice(hash + 1);
    if (document !== '' && document !== this.#rootId) {
      const embedded = this.#anchors.get(document);
      if (embedded === undefined || fragment !== '') throw grammarUnsupported(`a $ref to another document, ${JSON.stringify(ref.slice(0, 200))}`);
      return embedded;
    }
    if (fragment === '') return this.#root;
    if (!fragment.startsWith('/')) {
      const found = this.#anchors.get(`#${fragment}`);
      if (found === undefined) throw grammarInvalid(`The $ref ${JSON.stringify(ref.slice(0, 200))} leads nowhere.`);
      return found;
    }
    let at: unknown = this.#root;
    for (const raw of fragment.slice(1).split('/')) {
      const name = decoded(raw).replaceAll('~1', '/').replaceAll('~0', '~');
      const isInside = typeof at === 'object' && at !== null && Object.hasOwn(at, name);
      at = isInside ? (at as Record<string, unknown>)[name] : undefined;
      if (at === undefined) throw grammarInvalid(`The $ref ${JSON.stringify(ref.slice(0, 200))} leads nowhere.`);
    }
    return asSchema(at, ref);
  }

  /** The union that a schema comes to; empty when nothing fulfils it. */
  plain(schema: Schema, path: string, depth = 0): PlainSchema[] {
    if (typeof schema === 'boolean') return schema ? [{}] : [];
    this.#countWork();
    if (this.#numOpen >= MAX_OPEN) throw tooLarge(`what stands at ${path.slice(0, 200)}`, 'fewer schemas that say one another');
    this.#numOpen++;
    try {
      return this.#union(schema, path, depth);
    } finally {
      this.#numOpen--;
    }
  }

  #union(schema: SchemaObject, path: string, depth: number): PlainSchema[] {
    if (depth > 32) throw tooLarge(`the references and allOf at ${path}`, 'at most 32 levels that read nothing between');
    const {
      $ref,
      allOf,
      anyOf,
      oneOf,
      not,
      if: condition,
      then,
      else: otherwise,
      dependentRequired,
      dependentSchemas,
      ...own
    } = assertions(schema, path);
    let union: PlainSchema[] = [own as PlainSchema];
    if (typeof $ref === 'string') {
      // draft 7 and older ignore what stands beside $ref; today's drafts mean both
      const isLone = [allOf, anyOf, oneOf, not, condition, dependentRequired, dependentSchemas].every((keyword) => keyword === undefined);
      if (isTrivial(own) && isLone) return [{ $ref }];
      union = this.#cross(union, this.plain(this.resolve($ref), $ref, depth + 1), depth);
    }
    const branch = (list: unknown, i: number, keyword: string): Schema => asSchema((list as unknown[])[i], `${path}/${keyword}/${i}`);
    if (Array.isArray(allOf)) {
      for (const i of allOf.keys()) union = this.#cross(union, this.plain(branch(allOf, i, 'allOf'), `${path}/allOf/${i}`, depth + 1), depth);
    }
    if (Array.isArray(anyOf)) {
      const branches = anyOf.flatMap((_, i) => this.plain(branch(anyOf, i, 'anyOf'), `${path}/anyOf/${i}`, depth + 1));
      union = this.#cross(union, branches, depth);
    }
    if (Array.isArray(oneOf)) union = this.#oneOf(oneOf, union, path, depth);
    if (not !== undefined) union = this.#cross(union, this.#not(not, `${path}/not`, depth), depth);
    if (condition !== undefined) union = this.#cross(union, this.#conditional(condition, then, otherwise, path, depth), depth);
    for (const dependencies of [dependentRequired, dependentSchemas]) {
      for (const [name, needed] of Object.entries((dependencies ?? {}) as object)) {
        const schema = asSchema(Array.isArray(needed) ? { required: needed } : needed, `${path}/${name}`);
        const having = this.#cross([{ required: [name] }], this.plain(schema, `${path}/${name}`, depth + 1), depth);
        union = this.#cross(union, [{ properties: { [name]: false } }, ...having], depth);
      }
    }
    return union;
  }

  #not(schema: unknown, path: string, depth: number): PlainSchema[] {
    return excluded(asSchema(schema, path), path, this.#forNegation, depth);
  }

  #conditional(condition: unknown, then: unknown, otherwise: unknown, path: string, depth: number): PlainSchema[] {
    const [yes, no] = [asSchema(then ?? true, `${path}/then`), asSchema(otherwise ?? true, `${path}/else`)];
    const holds = this.plain(asSchema(condition, `${path}/if`), `${path}/if`, depth + 1);
    return [
      ...this.#cross(holds, this.plain(yes, `${path}/then`, depth + 1), depth),
      ...this.#cross(this.#not(condition, `${path}/if`, depth), this.plain(no, `${path}/else`, depth + 1), depth),
    ];
  }

  /** Branches that may hold at once each exclude the others. */
  #oneOf(oneOf: readonly unknown[], union: readonly PlainSchema[], path: string, depth: number): PlainSchema[] {
    const branches = oneOf.map((branch, i) => asSchema(branch, `${path}/oneOf/${i}`));
    const groups = branches.map((branch, i): PlainSchema[] => {
      const group = this.plain(branch, `${path}/oneOf/${i}`, depth + 1).flatMap((one) => this.#spread(one, depth));
      return this.#cross(union, group, depth);
    });
    const overlaps = this.#overlaps(groups, path);
    return groups.flatMap((group, i) =>
      overlaps[i].reduce((rest, other) => {
        try {
          return this.#cross(rest, this.#not(branches[other], `${path}/oneOf/${other}`, depth + 1), depth);
        } catch (thrown) {
          throw toOverlap(thrown, path);
        }
      }, group),
    );
  }

  /** For each group the others that are not proven to exclude it. */
  #overlaps(groups: readonly (readonly PlainSchema[])[], path: string): number[][] {
    const spread = groups.map((group) => group.flatMap((one) => this.#spread(one, 0)));
    const overlaps: number[][] = groups.map(() => []);
    let work = 0;
    const plain = (schema: Schema) => this.plain(schema, path).flatMap((one) => this.#spread(one, 0));
    for (const [i, group] of spread.entries()) {
      for (const [j, other] of spread.slice(0, i).entries()) {
        work += group.length * other.length;
        if (work > 100_000) throw tooLarge(`the oneOf at ${path}`, 'fewer branches');
        if (group.every((a) => other.every((b) => areDisjoint(a, b, plain, 0)))) continue;
        overlaps[i].push(j);
        overlaps[j].push(i);
      }
    }
    return overlaps;
  }

  /** Puts the target in the place of a lone reference. */
  #spread(schema: PlainSchema, depth: number): PlainSchema[] {
    if (typeof schema.$ref !== 'string') return [schema];
    if (depth > 32) throw tooLarge(`the reference ${schema.$ref.slice(0, 100)}`, 'at most 32 references in a row');
    return this.plain(this.resolve(schema.$ref), schema.$ref, depth + 1).flatMap((one) => this.#spread(one, depth + 1));
  }

  #cross(a: readonly PlainSchema[], b: readonly PlainSchema[], depth: number): PlainSchema[] {
    if (a.length === 1 && isTrivial(a[0])) return [...b];
    if (b.length === 1 && isTrivial(b[0])) return [...a];
    const left = a.flatMap((one) => this.#spread(one, depth));
    const right = b.flatMap((one) => this.#spread(one, depth));
    if (left.length * right.length > grammarLimits.branches) {
      throw tooLarge('the combinations of anyOf, oneOf and allOf', `at most ${grammarLimits.branches}`, String(left.length * right.length));
    }
    this.#numMerged += left.length * right.length;
    spendWork(left.length * right.length);
    if (this.#numMerged > grammarLimits.merged)
      throw tooLarge('the combinations of anyOf, oneOf and allOf together', `at most ${grammarLimits.merged}`);
    return left.flatMap((x) =>
      right.flatMap((y): PlainSchema[] => {
        const merged = merge(x, y, (p, q) => this.#both(p, q));
        return merged === null ? [] : [merged];
      }),
    );
  }

  #countWork(): void {
    spendWork(2);
    if (++this.#work > grammarLimits.schemaParts) throw tooLarge('the combinations of anyOf, oneOf, allOf and their opposites', 'fewer');
  }

  /** `{ allOf: [a, b] }`, the same object each time, so that recursive schemas come to an end. */
  #both(a: Schema, b: Schema): Schema {
    if (a === b || b === true) return a;
    if (a === true) return b;
    if (a === false || b === false) return false;
    let pairs = this.#pairs.get(a);
    if (pairs === undefined) {
      pairs = new Map();
      this.#pairs.set(a, pairs);
    }
    const known = pairs.get(b);
    if (known !== undefined) return known;
    const both = { allOf: [a, b] };
    pairs.set(b, both);
    return both;
  }

  #findAnchors(value: unknown, depth: number): void {
    if (depth > grammarLimits.nesting) throw tooLarge('the schema', `at most ${grammarLimits.nesting} levels`);
    if (Array.isArray(value)) for (const item of value) this.#findAnchors(item, depth + 1);
    if (!isObject(value)) return;
    for (const id of [value.$id, value.id]) if (typeof id === 'string') this.#anchors.set(id, value);
    if (typeof value.$anchor === 'string') this.#anchors.set(`#${value.$anchor}`, value);
    for (const inner of Object.values(value)) this.#findAnchors(inner, depth + 1);
  }
}

function toOverlap(thrown: unknown, path: string): unknown {
  if (!(thrown instanceof MillraceError) || thrown.code !== 'GRAMMAR_UNSUPPORTED') return thrown;
  return grammarUnsupported(
    `a "oneOf" at ${path} whose branches may hold at once`,
    'Use anyOf, or tell the branches apart by type or by a required property with a const.',
  );
}

function decoded(fragment: string): string {
  try {
    return decodeURIComponent(fragment);
  } catch {
    return fragment;
  }
}

export function typesOf(type: unknown): TypeName[] {
  return (Array.isArray(type) ? type : [type]) as TypeName[];
}

function commonTypes(a: unknown, b: unknown): TypeName[] {
  const [x, y] = [new Set(typesOf(a)), new Set(typesOf(b))];
  const common: TypeName[] = typeNames.filter((type) => x.has(type) && y.has(type));
  const isInteger = (x.has('integer') && (y.has('integer') || y.has('number'))) || (y.has('integer') && x.has('number'));
  return isInteger && !common.includes('number') ? [...common, 'integer'] : common;
}

const objectKeywords = ['properties', 'additionalProperties', 'patternProperties'];
const arrayKeywords = ['items', 'prefixItems'];

/** Both at once. @returns null when nothing fulfils both. @throws GRAMMAR_UNSUPPORTED when one schema cannot say it */
function merge(a: PlainSchema, b: PlainSchema, both: (a: Schema, b: Schema) => Schema): PlainSchema | null {
  const merged: Record<string, unknown> = { ...a };
  const refuse = (keyword: string) => grammarUnsupported(`several different "${keyword}" of one value (by allOf, anyOf or a $ref with siblings)`);
  for (const [keyword, value] of Object.entries(b)) {
    const mine = a[keyword];
    if (objectKeywords.includes(keyword) || arrayKeywords.includes(keyword)) continue;
    if (mine === undefined) merged[keyword] = value;
    else if (keyword === 'type') {
      const common = commonTypes(mine, value);
      if (common.length === 0) return null;
      merged.type = common;
    } else if (keyword === 'enum') {
      const texts = new Set((value as unknown[]).map((item) => JSON.stringify(item)));
      merged.enum = (mine as unknown[]).filter((item) => texts.has(JSON.stringify(item)));
    } else if (keyword === 'required') merged.required = [...new Set([...(mine as string[]), ...(value as string[])])];
    else if (keyword === NOT_ENUM || keyword === NOT_PATTERN) merged[keyword] = [...(mine as unknown[]), ...(value as unknown[])];
    else if (keyword === 'propertyNames') merged[keyword] = both(asSchema(mine, keyword), asSchema(value, keyword));
    else if (keyword === 'multipleOf') merged[keyword] = [...new Set([mine, value].flat())];
    else if (keyword === 'pattern') merged.pattern = [...new Set([mine, value].flat())];
    else if (/^(min|exclusiveMin)/.test(keyword)) merged[keyword] = Math.max(mine as number, value as number);
    else if (/^(max|exclusiveMax)/.test(keyword)) merged[keyword] = Math.min(mine as number, value as number);
    else if (JSON.stringify(mine) !== JSON.stringify(value)) throw refuse(keyword);
  }
  mergeObjects(a, b, merged, both);
  mergeArrays(a, b, merged, both, refuse);
  return merged;
}

type Both = (a: Schema, b: Schema) => Schema;
type Refuse = (keyword: string) => Error;

function mergeObjects(a: PlainSchema, b: PlainSchema, merged: Record<string, unknown>, both: Both): void {
  const speaks = (schema: PlainSchema) => objectKeywords.some((keyword) => schema[keyword] !== undefined);
  if (!speaks(b)) return;
  if (!speaks(a)) {
    for (const keyword of objectKeywords) if (b[keyword] !== undefined) merged[keyword] = b[keyword];
    return;
  }
  const [mine, theirs] = [(a.properties ?? {}) as SchemaObject, (b.properties ?? {}) as SchemaObject];
  const rest = (schema: PlainSchema) => asSchema(schema.additionalProperties ?? true, 'additionalProperties');
  const properties: [string, Schema][] = [];
  for (const name of new Set([...Object.keys(mine), ...Object.keys(theirs)])) {
    const of = (own: SchemaObject, schema: PlainSchema) => (Object.hasOwn(own, name) ? asSchema(own[name], name) : rest(schema));
    properties.push([name, both(of(mine, a), of(theirs, b))]);
  }
  merged.properties = Object.fromEntries(properties);
  merged.additionalProperties = both(rest(a), rest(b));
  const [patterns, otherPatterns] = [(a.patternProperties ?? {}) as SchemaObject, (b.patternProperties ?? {}) as SchemaObject];
  const sources = [...new Set([...Object.keys(patterns), ...Object.keys(otherPatterns)])];
  if (sources.length === 0) return;
  // a name that fits patterns of both is held to more than it need be
  const ofPattern = (own: SchemaObject, schema: PlainSchema, source: string) =>
    Object.hasOwn(own, source) ? asSchema(own[source], source) : rest(schema);
  merged.patternProperties = Object.fromEntries(
    sources.map((source) => [source, both(ofPattern(patterns, a, source), ofPattern(otherPatterns, b, source))]),
  );
}

function mergeArrays(a: PlainSchema, b: PlainSchema, merged: Record<string, unknown>, both: Both, refuse: Refuse): void {
  const speaks = (schema: PlainSchema) => arrayKeywords.some((keyword) => schema[keyword] !== undefined);
  if (!speaks(b)) return;
  if (!speaks(a)) {
    for (const keyword of arrayKeywords) if (b[keyword] !== undefined) merged[keyword] = b[keyword];
    return;
  }
  if (a.prefixItems !== undefined || b.prefixItems !== undefined) throw refuse('prefixItems');
  merged.items = both(asSchema(a.items ?? true, 'items'), asSchema(b.items ?? true, 'items'));
}
