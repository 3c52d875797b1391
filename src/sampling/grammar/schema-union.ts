/** A schema with references and combining keywords as a union of plain ones: `allOf` merged, `anyOf` and `oneOf` spread out. */
import { grammarInvalid, grammarLimits, grammarUnsupported, tooLarge } from './limits.ts';
import { areDisjoint } from './schema-disjoint.ts';
import { asSchema, assertions, isObject, isTrivial, type Schema, type SchemaObject, type TypeName, typeNames } from './schema-keywords.ts';

/** Asserting keywords only, without combining ones; `{ $ref }` alone stands for another schema. */
export type PlainSchema = SchemaObject;

export class SchemaUnions {
  readonly #root: Schema;
  readonly #anchors = new Map<string, Schema>();
  readonly #rootId: string;
  #work = 0;
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
    if (++this.#work > 100_000) throw tooLarge('the combinations of anyOf, oneOf and allOf', 'fewer');
    if (depth > 32) throw tooLarge(`the references and allOf at ${path}`, 'at most 32 levels that read nothing between');
    const { $ref, allOf, anyOf, oneOf, ...own } = assertions(schema, path);
    let union: PlainSchema[] = [own as PlainSchema];
    if (typeof $ref === 'string') {
      // draft 7 and older ignore what stands beside $ref; today's drafts mean both
      if (isTrivial(own) && allOf === undefined && anyOf === undefined && oneOf === undefined) return [{ $ref }];
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
    if (Array.isArray(oneOf)) {
      const groups = oneOf.map((_, i): PlainSchema[] => {
        const group = this.plain(branch(oneOf, i, 'oneOf'), `${path}/oneOf/${i}`, depth + 1).flatMap((one) => this.#spread(one, depth));
        return this.#cross(union, group, depth);
      });
      this.#checkDisjoint(groups, path);
      union = groups.flat(1);
    }
    return union;
  }

  #checkDisjoint(groups: readonly (readonly PlainSchema[])[], path: string): void {
    const spread = groups.map((group) => group.flatMap((one) => this.#spread(one, 0)));
    let work = 0;
    for (const [i, group] of spread.entries()) {
      for (const other of spread.slice(0, i)) {
        for (const a of group) {
          for (const b of other) {
            if (++work > 100_000) throw tooLarge(`the oneOf at ${path}`, 'fewer branches');
            if (!areDisjoint(a, b, (schema) => this.plain(schema, path).flatMap((one) => this.#spread(one, 0)), 0)) {
              throw grammarUnsupported(
                `a "oneOf" at ${path} whose branches may hold at once`,
                'Use anyOf, or tell the branches apart by type or by a required property with a const.',
              );
            }
          }
        }
      }
    }
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
    return left.flatMap((x) =>
      right.flatMap((y): PlainSchema[] => {
        const merged = merge(x, y, (p, q) => this.#both(p, q));
        return merged === null ? [] : [merged];
      }),
    );
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
    else if (keyword === 'pattern') merged.pattern = [...new Set([mine, value].flat())];
    else if (/^(min|exclusiveMin)/.test(keyword)) merged[keyword] = Math.max(mine as number, value as number);
    else if (/^(max|exclusiveMax)/.test(keyword)) merged[keyword] = Math.min(mine as number, value as number);
    else if (JSON.stringify(mine) !== JSON.stringify(value)) throw refuse(keyword);
  }
  mergeObjects(a, b, merged, both, refuse);
  mergeArrays(a, b, merged, both, refuse);
  return merged;
}

type Both = (a: Schema, b: Schema) => Schema;
type Refuse = (keyword: string) => Error;

function mergeObjects(a: PlainSchema, b: PlainSchema, merged: Record<string, unknown>, both: Both, refuse: Refuse): void {
  const speaks = (schema: PlainSchema) => objectKeywords.some((keyword) => schema[keyword] !== undefined);
  if (!speaks(b)) return;
  if (!speaks(a)) {
    for (const keyword of objectKeywords) if (b[keyword] !== undefined) merged[keyword] = b[keyword];
    return;
  }
  if (a.patternProperties !== undefined || b.patternProperties !== undefined) throw refuse('patternProperties');
  const [mine, theirs] = [(a.properties ?? {}) as SchemaObject, (b.properties ?? {}) as SchemaObject];
  const rest = (schema: PlainSchema) => asSchema(schema.additionalProperties ?? true, 'additionalProperties');
  const properties: [string, Schema][] = [];
  for (const name of new Set([...Object.keys(mine), ...Object.keys(theirs)])) {
    const of = (own: SchemaObject, schema: PlainSchema) => (Object.hasOwn(own, name) ? asSchema(own[name], name) : rest(schema));
    properties.push([name, both(of(mine, a), of(theirs, b))]);
  }
  merged.properties = Object.fromEntries(properties);
  merged.additionalProperties = both(rest(a), rest(b));
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
