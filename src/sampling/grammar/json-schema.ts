/**
 * JSON Schema (drafts 4 to 2020-12) as a grammar of JSON texts. Every text of the grammar fulfils the schema; what cannot be promised is refused.
 * Properties come in the order in which the schema names them; without `type`, values are of the types that the schema's keywords speak about.
 */
import type { CodePointSet } from './code-points.ts';
import { choice, type Expression, literal, literals, nothing, optional, repeat, ruleRef, sequence } from './expression.ts';
import { assertedFormats, formatPatterns, MAX_LABEL, shortFormatPatterns } from './formats.ts';
import type { Grammar } from './grammar.ts';
import { GrammarBuilder } from './grammar.ts';
import { integer, type JsonSpelling, JsonText, number } from './json-text.ts';
import { grammarLimits, grammarUnsupported, spendWork, tooLarge } from './limits.ts';
import { multipleAutomaton } from './number-multiple.ts';
import { boundedNumber, boundsOf } from './number-range.ts';
import { parseRegex, searchOf } from './regex.ts';
import { fits } from './schema-fits.ts';
import { asSchema, isObject, keywordTypes, type Schema, type SchemaObject, type TypeName } from './schema-keywords.ts';
import { NOT_ENUM, NOT_PATTERN } from './schema-negate.ts';
import { objectExpression } from './schema-object.ts';
import { type PlainSchema, SchemaUnions } from './schema-union.ts';
import {
  languageExpression,
  literalAutomaton,
  oneAutomaton,
  type PatternLanguage,
  patternLanguage,
  readsText,
  type TextAutomaton,
  textAutomaton,
} from './text-language.ts';

/** @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE */
export function compileJsonSchema(schema: unknown, spelling: JsonSpelling): Grammar {
  const builder = new GrammarBuilder();
  schemaRule(schema, builder, spelling);
  return builder.build();
}

/** The rule of a schema, as a part of a larger grammar. */
export function schemaRule(schema: unknown, builder: GrammarBuilder, spelling: JsonSpelling): number {
  return new SchemaCompiler(asSchema(schema, '#'), builder, spelling).compile();
}

/** Any JSON object, or any value. */
export function compileAnyJson(kind: 'object' | 'value', spelling: JsonSpelling): Grammar {
  const builder = new GrammarBuilder();
  const start = builder.addRule('text');
  const json = new JsonText(builder, spelling);
  builder.define(start, kind === 'object' ? json.object : json.value);
  return builder.build();
}

export class SchemaCompiler {
  readonly builder: GrammarBuilder;
  readonly json: JsonText;
  readonly #unions: SchemaUnions;
  readonly #rules = new Map<Schema, number>();
  readonly #pending: { rule: number; schema: Schema; path: string }[] = [];
  readonly #patterns = new Map<string, PatternLanguage>();
  readonly #onePatterns = new Map<string, TextAutomaton>();
  readonly #otherNames = new Map<string, Expression>();
  #numParts = 0;

  readonly #start: number;

  constructor(root: Schema, builder: GrammarBuilder, spelling: JsonSpelling) {
    this.builder = builder;
    this.#unions = new SchemaUnions(root);
    this.#start = builder.addRule('#');
    this.json = new JsonText(this.builder, spelling);
    this.#rules.set(root, this.#start);
    this.#pending.push({ rule: this.#start, schema: root, path: '#' });
  }

  compile(): number {
    for (let next = this.#pending.pop(); next !== undefined; next = this.#pending.pop()) {
      const { path } = next;
      this.builder.define(next.rule, choice(...this.#unions.plain(next.schema, path).map((schema) => this.#plain(schema, path))));
    }
    return this.#start;
  }

  /** A value that fulfils a schema. */
  value(schema: Schema, path: string): Expression {
    if (schema === true || (isObject(schema) && Object.keys(schema).length === 0)) return this.json.value;
    if (schema === false) return nothing;
    let rule = this.#rules.get(schema);
    if (rule === undefined) {
      rule = this.builder.addRule(path);
      this.#rules.set(schema, rule);
      this.#pending.push({ rule, schema, path });
    }
    return ruleRef(rule);
  }

  /** What a schema comes to, references followed. */
  unionOf(schema: Schema, path: string): PlainSchema[] {
    return this.#unions
      .plain(schema, path)
      .flatMap((one) => (typeof one.$ref === 'string' ? this.unionOf(this.#unions.resolve(one.$ref), one.$ref) : [one]));
  }

  /** The texts in which a search for the pattern succeeds, as one automaton. */
  pattern(source: string): TextAutomaton {
    const language = this.patternLanguage(source);
    if (language.all.length === 1 && language.none.length === 0) return language.all[0];
    const known = this.#onePatterns.get(source) ?? oneAutomaton(language, `the pattern ${JSON.stringify(source.slice(0, 200))}`);
    this.#onePatterns.set(source, known);
    return known;
  }

  /** The same of a pattern with look-ahead in front. */
  patternLanguage(source: string): PatternLanguage {
    let language = this.#patterns.get(source);
    if (language === undefined) {
      language = patternLanguage(searchOf(parseRegex(source)), source);
      this.#patterns.set(source, language);
    }
    return language;
  }

  /** What names other than these are, made once for all objects that declare the same. */
  otherNames(names: readonly string[], make: () => Expression): Expression {
    const key = JSON.stringify(names);
    const known = this.#otherNames.get(key) ?? make();
    this.#otherNames.set(key, known);
    return known;
  }

  #plain(schema: PlainSchema, path: string): Expression {
    spendWork(1);
    if (++this.#numParts > grammarLimits.parts)
      throw tooLarge(`what anyOf, oneOf, allOf and their opposites come to at ${path.slice(0, 200)}`, `at most ${grammarLimits.parts} plain schemas`);
    if (typeof schema.$ref === 'string') return this.value(this.#unions.resolve(schema.$ref), schema.$ref);
    if (Array.isArray(schema.enum)) return this.#enum(schema, schema.enum, path);
    const implied = Object.keys(schema).flatMap((keyword) => keywordTypes[keyword] ?? []);
    const types = schema.type === undefined ? (implied.length > 0 ? new Set(implied) : null) : new Set([schema.type].flat() as TypeName[]);
    if (types === null) return this.json.value;
    if (types.has('number')) types.delete('integer');
    return choice(...[...types].map((type) => this.#typed(type, schema, path)));
  }

  #typed(type: TypeName, schema: SchemaObject, path: string): Expression {
    switch (type) {
      case 'object':
        return objectExpression(schema, this, path);
      case 'array':
        return this.#array(schema, path);
      case 'string':
        return this.#string(schema, path);
      case 'boolean':
        return literals(['true', 'false']);
      case 'null':
        return literal('null');
      default:
        return this.#number(schema, type === 'integer', path);
    }
  }

  #enum(schema: SchemaObject, values: readonly unknown[], path: string): Expression {
    const { enum: _, ...beside } = schema;
    const fitting = values.filter((value) => fits(value, beside, this, path));
    return literals(new Set(fitting.map((value) => JSON.stringify(value))));
  }

  /** Whether a text is one that the automaton reads. */
  reads(automaton: TextAutomaton, text: string): boolean {
    return readsText(automaton, text);
  }

  #string(schema: SchemaObject, path: string): Expression {
    const minLength = countOf(schema.minLength, 0);
    let maxLength = countOf(schema.maxLength, Number.POSITIVE_INFINITY);
    const patterns = patternsOf(schema).map((pattern) => this.patternLanguage(pattern));
    const all = patterns.flatMap((pattern) => pattern.all);
    const none = [...patterns.flatMap((pattern) => pattern.none), ...forbiddenPatterns(schema).map((pattern) => this.pattern(pattern))];
    if (schema[NOT_ENUM] !== undefined) none.push(literalAutomaton(schema[NOT_ENUM] as string[]));
    // a format that JSON Schema does not define asserts nothing
    if (typeof schema.format === 'string' && assertedFormats.has(schema.format)) {
      const isShort = maxLength !== Number.POSITIVE_INFINITY && minLength <= MAX_LABEL && Object.hasOwn(shortFormatPatterns, schema.format);
      if (isShort) maxLength = Math.min(maxLength, MAX_LABEL);
      const known = isShort ? shortFormatPatterns : formatPatterns;
      const pattern = Object.hasOwn(known, schema.format) ? known[schema.format] : undefined;
      if (pattern === undefined) throw grammarUnsupported(`the format ${JSON.stringify(schema.format.slice(0, 100))} at ${path}`);
      all.push(textAutomaton(parseRegex(pattern)));
    }
    if (all.length + none.length === 0)
      return minLength === 0 && maxLength === Number.POSITIVE_INFINITY ? this.json.string : this.json.stringOf(minLength, maxLength);
    const text = languageExpression({ all, none, minLength, maxLength }, (set) => this.json.spell(set), `the pattern or format at ${path}`);
    return sequence(literal('"'), text, literal('"'));
  }

  #number(schema: SchemaObject, isInteger: boolean, path: string): Expression {
    const bounds = boundsOf(schema);
    const multiples = schema.multipleOf === undefined ? [] : ([schema.multipleOf].flat() as number[]);
    const values = (schema[NOT_ENUM] ?? []) as readonly number[];
    if (bounds.min === null && bounds.max === null && multiples.length + values.length === 0) return isInteger ? integer : number;
    const all = boundedNumber(bounds, isInteger).map((regex) => textAutomaton(regex));
    for (const multiple of multiples) all.push(multipleAutomaton(multiple, path));
    // integers have one spelling each, and values are forbidden of integers only
    const none = values.length === 0 ? [] : [literalAutomaton(values.filter(Number.isInteger).map((value) => BigInt(value).toString()))];
    return languageExpression({ all, none }, (set: CodePointSet) => ({ kind: 'characters', set }), `the bounds of the number at ${path}`);
  }

  #array(schema: SchemaObject, path: string): Expression {
    if (schema.contains !== undefined) return this.#containing(schema, path);
    const { comma } = this.json;
    const prefix = (Array.isArray(schema.prefixItems) ? schema.prefixItems : []).map((item, i) => asSchema(item, `${path}/prefixItems/${i}`));
    const min = countOf(schema.minItems, 0);
    const max = countOf(schema.maxItems, Number.POSITIVE_INFINITY);
    if (prefix.length > grammarLimits.nesting)
      throw tooLarge(`the prefixItems at ${path}`, `at most ${grammarLimits.nesting}`, String(prefix.length));
    const item = this.value(asSchema(schema.items ?? true, `${path}/items`), `${path}/items`);
    // from the last place to the first: what may follow when so many items are there
    let rest: Expression;
    const n = Math.min(prefix.length, max);
    if (n === 0) {
      const more = repeat(sequence(comma, item), Math.max(0, min - 1), max - 1);
      rest = max === 0 ? optionalIf(min === 0, nothing) : optionalIf(min === 0, sequence(item, more));
    } else {
      rest = repeat(sequence(comma, item), Math.max(0, min - n), max - n);
      for (let i = n - 1; i >= 0; i--) {
        const one = sequence(...(i > 0 ? [comma] : []), this.value(prefix[i], `${path}/prefixItems/${i}`), rest);
        rest = optionalIf(min <= i, one);
      }
    }
    return sequence(literal('['), rest, literal(']'));
  }

  /** An item that `contains` asks for, any others before and behind it. */
  #containing(schema: SchemaObject, path: string): Expression {
    const { comma } = this.json;
    if (schema.prefixItems !== undefined || countOf(schema.minItems, 0) > 1 || schema.maxItems !== undefined)
      throw grammarUnsupported(`"contains" beside prefixItems, minItems or maxItems at ${path}`);
    const items = asSchema(schema.items ?? true, `${path}/items`);
    const wanted = asSchema(schema.contains, `${path}/contains`);
    const any = this.value(items, `${path}/items`);
    const one = this.value(items === true ? wanted : { allOf: [items, wanted] }, `${path}/contains`);
    const more = (count: Expression) => repeat(count, 0, Number.POSITIVE_INFINITY);
    return sequence(literal('['), more(sequence(any, comma)), one, more(sequence(comma, any)), literal(']'));
  }
}

function forbiddenPatterns(schema: SchemaObject): readonly string[] {
  return (schema[NOT_PATTERN] ?? []) as string[];
}

function optionalIf(isOptional: boolean, expression: Expression): Expression {
  return isOptional ? optional(expression) : expression;
}

function countOf(value: unknown, otherwise: number): number {
  return typeof value === 'number' ? value : otherwise;
}

function patternsOf(schema: SchemaObject): string[] {
  return schema.pattern === undefined ? [] : ([schema.pattern].flat() as string[]);
}
