/**
 * Structural tags: free text in which certain beginnings open parts that are held to a schema, a pattern or a grammar. Read in both forms that
 * vLLM takes: the older `{structures: [{begin, schema, end}], triggers}`, and xgrammar's `{format: {type: ...}}`.
 */
import { anyCodePoint, type CodePointSet, codePoints, complement } from './code-points.ts';
import {
  type AutomatonEdge,
  type AutomatonState,
  bytes,
  characters,
  choice,
  type Expression,
  literal,
  optional,
  repeat,
  ruleRef,
  sequence,
} from './expression.ts';
import { gbnfRule } from './gbnf.ts';
import { type Grammar, GrammarBuilder } from './grammar.ts';
import { schemaRule } from './json-schema.ts';
import type { JsonSpelling } from './json-text.ts';
import { grammarInvalid, grammarLimits, grammarUnsupported, tooLarge } from './limits.ts';
import { isObject, type SchemaObject } from './schema-keywords.ts';
import { patternExpression } from './text-language.ts';
import { TAG_BYTE } from './vocabulary-tables.ts';
import { tagBytes } from './vocabulary-trie.ts';

interface Tag {
  readonly begin: string;
  readonly content: Expression;
  readonly end: string;
}

/** @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED, GRAMMAR_TOO_LARGE */
export function compileStructuralTag(given: unknown, spelling: JsonSpelling): Grammar {
  const wanted = typeof given === 'string' ? parsed(given) : given;
  if (!isObject(wanted)) throw invalid('must be an object', 'structural_tag');
  const builder = new GrammarBuilder();
  const start = builder.addRule('structural tag');
  const reader = new TagReader(builder, spelling);
  builder.define(start, isObject(wanted.format) ? reader.format(wanted.format, 'format', []) : reader.structures(wanted));
  return builder.build();
}

/**
 * The form of a whole output, made by this program and not by its users: a format as above, in which `token` names a tag token by its id, `repeat`
 * takes an element any number of times, `any_bytes` is free text that may end inside of a character, and `structures` stands for the older form.
 * @throws as `compileStructuralTag`
 */
export function compileOutline(format: unknown, spelling: JsonSpelling): Grammar {
  const builder = new GrammarBuilder();
  const start = builder.addRule('outline');
  builder.define(start, new TagReader(builder, spelling, true).format(asObject(format, 'outline'), 'outline', []));
  return builder.build();
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid('is not valid JSON', 'structural_tag');
  }
}

function invalid(what: string, path: string): Error {
  return grammarInvalid(`The structural tag's ${path} ${what}.`, 'structured_outputs.structural_tag');
}

class TagReader {
  readonly #builder: GrammarBuilder;
  readonly #spelling: JsonSpelling;
  readonly #isOutline: boolean;
  #depth = 0;

  constructor(builder: GrammarBuilder, spelling: JsonSpelling, isOutline = false) {
    this.#builder = builder;
    this.#spelling = spelling;
    this.#isOutline = isOutline;
  }

  structures({ structures, triggers }: SchemaObject): Expression {
    const tags = listOf(structures, 'structures').map((one, i): Tag => {
      const { begin, schema, end } = asObject(one, `structures[${i}]`);
      return {
        begin: textOf(begin, `structures[${i}].begin`),
        content: this.#schema(schema ?? true),
        end: textOf(end, `structures[${i}].end`),
      };
    });
    return this.#triggered(tags, triggersOf(triggers), { path: 'structures', until: [], atLeastOne: false, stopsAfterFirst: false });
  }

  /** @param until strings that free text must not hold, since they end what it stands in */
  format(format: SchemaObject, path: string, until: readonly string[]): Expression {
    if (++this.#depth > grammarLimits.nesting) throw tooLarge('the structural tag', `at most ${grammarLimits.nesting} levels`);
    try {
      return this.#format(format, path, until);
    } finally {
      this.#depth--;
    }
  }

  #format(format: SchemaObject, path: string, until: readonly string[]): Expression {
    const inner = (value: unknown, where: string) => this.format(asObject(value, where), where, until);
    const elements = () => listOf(format.elements, `${path}.elements`).map((one, i) => inner(one, `${path}.elements[${i}]`));
    switch (format.type) {
      case 'const_string':
        return literal(textOf(format.value, `${path}.value`));
      case 'json_schema':
        return this.#schema(format.json_schema);
      case 'regex':
        return patternExpression(textOf(format.pattern, `${path}.pattern`));
      case 'grammar':
        return ruleRef(gbnfRule(textOf(format.grammar, `${path}.grammar`), this.#builder));
      case 'any_text':
        return freeText([...until, ...excludesOf(format.excludes, path)].map((text) => [text, null]));
      case 'sequence':
        return sequence(...elements());
      case 'or':
        return choice(...elements());
      case 'tag': {
        const { begin, content, end } = this.#tag(format, path);
        return sequence(literal(begin), content, literal(end));
      }
      case 'triggered_tags': {
        const options = { path, until, atLeastOne: format.at_least_one === true, stopsAfterFirst: format.stop_after_first === true };
        return this.#triggered(this.#tags(format, path), triggersOf(format.triggers), options);
      }
      case 'tags_with_separator': {
        const one = choice(...this.#tags(format, path).map(({ begin, content, end }) => sequence(literal(begin), content, literal(end))));
        const more = repeat(sequence(literal(textOf(format.separator, `${path}.separator`)), one), 0, Number.POSITIVE_INFINITY);
        const all = format.stop_after_first === true ? one : sequence(one, more);
        return format.at_least_one === true ? all : optional(all);
      }
      default:
        if (this.#isOutline) return this.#ofOutline(format, path, until);
        throw grammarUnsupported(`the structural tag's ${path} of type ${JSON.stringify(format.type ?? null)}`);
    }
  }

  #ofOutline(format: SchemaObject, path: string, until: readonly string[]): Expression {
    switch (format.type) {
      case 'token':
        return bytes(tagBytes(Number(format.id)));
      case 'any_bytes':
        return freeBytes(excludesOf(format.excludes, path));
      case 'repeat':
        return repeat(this.format(asObject(format.element, path), path, until), 0, Number.POSITIVE_INFINITY);
      default:
        return this.structures(format);
    }
  }

  #tags({ tags }: SchemaObject, path: string): Tag[] {
    return listOf(tags, `${path}.tags`).map((tag, i) => this.#tag(asObject(tag, `${path}.tags[${i}]`), `${path}.tags[${i}]`));
  }

  #tag({ begin, content, end }: SchemaObject, path: string): Tag {
    const close = textOf(Array.isArray(end) ? end[0] : end, `${path}.end`);
    const until = close === '' ? [] : [close];
    return {
      begin: textOf(begin, `${path}.begin`),
      content: this.format(asObject(content, `${path}.content`), `${path}.content`, until),
      end: close,
    };
  }

  #schema(schema: unknown): Expression {
    return ruleRef(schemaRule(schema, this.#builder, this.#spelling));
  }

  #triggered(
    tags: readonly Tag[],
    triggers: readonly string[],
    options: { path: string; until: readonly string[]; atLeastOne: boolean; stopsAfterFirst: boolean },
  ): Expression {
    const opened = triggers.map((trigger): [string, Expression] => {
      const own = tags.filter(({ begin }) => begin.startsWith(trigger));
      if (own.length === 0) throw invalid(`has the trigger ${JSON.stringify(trigger)}, with which no tag begins`, options.path);
      return [trigger, choice(...own.map(({ begin, content, end }) => sequence(literal(begin.slice(trigger.length)), content, literal(end))))];
    });
    const orphan = tags.find(({ begin }) => !triggers.some((trigger) => begin.startsWith(trigger)));
    if (orphan !== undefined) throw invalid(`has a tag ${JSON.stringify(orphan.begin)} that no trigger opens`, options.path);
    const none = [...triggers, ...options.until].map((text): [string, null] => [text, null]);
    // one after another, or the first one and plain text behind it
    const first = freeText([...opened, ...options.until.map((text): [string, null] => [text, null])], 'once');
    if (options.stopsAfterFirst) return options.atLeastOne ? first : choice(first, freeText(none));
    const rest = sequence(repeat(first, 0, Number.POSITIVE_INFINITY), freeText(none));
    return options.atLeastOne ? sequence(first, rest) : rest;
  }
}

function textOf(value: unknown, path: string): string {
  if (typeof value === 'string') return value;
  throw invalid('must be a string', path);
}

function asObject(value: unknown, path: string): SchemaObject {
  if (isObject(value)) return value;
  throw invalid('must be an object', path);
}

function listOf(value: unknown, path: string): readonly unknown[] {
  if (Array.isArray(value) && value.length > 0 && value.length <= 1000) return value;
  throw invalid('must be a list of 1 to 1000', path);
}

/** Strings that a free text must not hold. */
function excludesOf(excludes: unknown, path: string): string[] {
  if (excludes === undefined || excludes === null) return [];
  if (!Array.isArray(excludes) || excludes.length > 1000) throw invalid('must be a list of at most 1000', `${path}.excludes`);
  return excludes.map((text, i) => {
    const excluded = textOf(text, `${path}.excludes[${i}]`);
    if (excluded === '') throw invalid('must not be empty', `${path}.excludes[${i}]`);
    return excluded;
  });
}

function triggersOf(triggers: unknown): string[] {
  return listOf(triggers, 'triggers').map((trigger, i) => {
    const text = textOf(trigger, `triggers[${i}]`);
    if (text === '') throw invalid('must not be empty', `triggers[${i}]`);
    return text;
  });
}

/**
 * Text in which these strings do not occur (Aho and Corasick's automaton); with `once`, text up to and through one of those that have something
 * behind them, and no end elsewhere.
 */
function freeText(strings: readonly (readonly [text: string, behind: Expression | null])[], mode: 'any' | 'once' = 'any'): Expression {
  if (strings.length === 0) return repeat(characters(anyCodePoint), 0, Number.POSITIVE_INFINITY);
  const nodes = suffixTree(strings.map(([text]) => text));
  const end = nodes.length;
  const states = nodes.map(({ next }): AutomatonState => {
    const edges: AutomatonEdge[] = [];
    const ofTarget = new Map<number, [number, number][]>();
    for (const [code, target] of next) {
      const found = nodes[target].found;
      if (found < 0) ofTarget.set(target, [...(ofTarget.get(target) ?? []), [code, code]]);
      else {
        const behind = strings[found][1];
        if (mode === 'once' && behind !== null) edges.push({ label: sequence(characters(codePoints([[code, code]])), behind), target: end });
      }
    }
    const others: CodePointSet = complement(codePoints(Array.from(next.keys(), (code): [number, number] => [code, code])));
    edges.push({ label: characters(others), set: others, target: 0 });
    for (const [target, ranges] of ofTarget) edges.push({ label: characters(codePoints(ranges)), set: codePoints(ranges), target });
    return { isEnd: mode === 'any', edges };
  });
  return { kind: 'states', states: [...states, { isEnd: true, edges: [] }] };
}

/** Any bytes, whole characters or not, in which these strings do not occur. */
function freeBytes(strings: readonly string[]): Expression {
  const nodes = suffixTree(strings.map((text) => Buffer.from(text).toString('latin1')));
  const states = nodes.map(({ next }): AutomatonState => {
    const ranges: [low: number, high: number, target: number][] = [];
    for (let byte = 0; byte < TAG_BYTE; byte++) {
      const target = next.get(byte) ?? 0;
      const last = ranges.at(-1);
      if (last !== undefined && last[2] === target) last[1] = byte;
      else ranges.push([byte, byte, target]);
    }
    const edges = ranges
      .filter(([, , target]) => nodes[target].found < 0)
      .map(([low, high, target]): AutomatonEdge => ({ label: { kind: 'bytes', ranges: [[low, high]] }, target }));
    return { isEnd: true, edges };
  });
  return { kind: 'states', states };
}

interface SuffixNode {
  /** For each character that occurs in the strings: where it leads. */
  readonly next: Map<number, number>;
  /** Index of the string that ends here, or -1. */
  found: number;
}

function suffixTree(texts: readonly string[]): SuffixNode[] {
  const children: Map<number, number>[] = [new Map()];
  const found: number[] = [-1];
  for (const [i, text] of texts.entries()) {
    let at = 0;
    for (const character of text) {
      const code = character.codePointAt(0) ?? 0;
      let child = children[at].get(code);
      if (child === undefined) {
        child = children.push(new Map()) - 1;
        found.push(-1);
        children[at].set(code, child);
        if (children.length > 4000) throw tooLarge('the triggers and ends of the structural tag', 'at most 4000 characters');
      }
      at = child;
    }
    if (found[at] < 0) found[at] = i;
  }
  const alphabet = new Set(texts.flatMap((text) => Array.from(text, (c) => c.codePointAt(0) ?? 0)));
  const nodes = children.map((_, i): SuffixNode => ({ next: new Map(), found: found[i] }));
  const suffix = new Int32Array(children.length);
  const queue = [0];
  for (const at of queue) {
    for (const code of alphabet) {
      const child = children[at].get(code);
      const fallback = at === 0 ? 0 : (nodes[suffix[at]].next.get(code) ?? 0);
      nodes[at].next.set(code, child ?? fallback);
      if (child === undefined) continue;
      suffix[child] = fallback;
      if (nodes[child].found < 0) nodes[child].found = nodes[fallback].found;
      queue.push(child);
    }
  }
  return nodes;
}
