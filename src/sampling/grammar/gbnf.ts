/**
 * Grammars as text: GBNF, the notation of llama.cpp. `name ::= "text" [class] ( group ) name | other`, repeated by `* + ? {m,n}`, `#` begins a
 * comment, `root` is the output.
 */
import { anyCodePoint, type CodePointSet, codePoints, complement, union } from './code-points.ts';
import { characters, choice, type Expression, literal, repeat, ruleRef, sequence } from './expression.ts';
import { type Grammar, GrammarBuilder } from './grammar.ts';
import { grammarInvalid, grammarLimits, tooLarge } from './limits.ts';

/** @throws GRAMMAR_INVALID with line and column, GRAMMAR_TOO_LARGE */
export function compileGbnf(text: string): Grammar {
  const builder = new GrammarBuilder();
  gbnfRule(text, builder);
  return builder.build();
}

/** The rule `root` of a grammar, as a part of a larger one. */
export function gbnfRule(text: string, builder: GrammarBuilder): number {
  return new GbnfParser(text, builder).parse();
}

const ruleName = /[a-zA-Z][a-zA-Z0-9_-]*/y;
const escapes: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '\\': '\\', '"': '"', '[': '[', ']': ']', '-': '-', '^': '^' };
const hexLengths: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

class GbnfParser {
  readonly #text: string;
  readonly #builder: GrammarBuilder;
  readonly #rules = new Map<string, number>();
  readonly #defined = new Set<string>();
  #at = 0;
  #depth = 0;

  constructor(text: string, builder: GrammarBuilder) {
    this.#builder = builder;
    if (text.length > grammarLimits.sourceLength) throw tooLarge('its text', `at most ${grammarLimits.sourceLength} characters`, String(text.length));
    this.#text = text;
  }

  parse(): number {
    const root = this.#rule('root');
    this.#skip(true);
    while (this.#at < this.#text.length) {
      this.#definition();
      this.#skip(true);
    }
    for (const name of this.#rules.keys()) {
      if (!this.#defined.has(name)) throw grammarInvalid(`The rule ${name} of the grammar is used but not defined.`);
    }
    return root;
  }

  #rule(name: string): number {
    let rule = this.#rules.get(name);
    if (rule === undefined) {
      rule = this.#builder.addRule(name);
      this.#rules.set(name, rule);
    }
    return rule;
  }

  #invalid(what: string): Error {
    const before = this.#text.slice(0, this.#at).split('\n');
    return grammarInvalid(`The grammar has ${what} in line ${before.length}, column ${(before.at(-1) ?? '').length + 1}.`);
  }

  /** White space and comments; a line's end belongs to them inside of groups and between rules. */
  #skip(overLines: boolean): void {
    const blank = overLines ? /(?:\s|#[^\n]*)*/y : /(?:[ \t]|#[^\n]*)*/y;
    blank.lastIndex = this.#at;
    this.#at += blank.exec(this.#text)?.[0].length ?? 0;
  }

  #name(): string | null {
    ruleName.lastIndex = this.#at;
    const found = ruleName.exec(this.#text)?.[0];
    if (found === undefined) return null;
    this.#at += found.length;
    return found;
  }

  #definition(): void {
    const name = this.#name();
    if (name === null) throw this.#invalid('no rule name where a rule should begin');
    this.#skip(false);
    if (!this.#text.startsWith('::=', this.#at)) throw this.#invalid(`no ::= behind the rule name ${name}`);
    this.#at += 3;
    this.#skip(true);
    if (this.#defined.has(name)) throw this.#invalid(`a second definition of the rule ${name}`);
    this.#defined.add(name);
    this.#builder.define(this.#rule(name), this.#choice());
    if (this.#at < this.#text.length && this.#text[this.#at] !== '\n' && this.#text[this.#at] !== '\r') throw this.#invalid('something unexpected');
  }

  #choice(): Expression {
    if (++this.#depth > grammarLimits.nesting) throw tooLarge('its nesting', `at most ${grammarLimits.nesting} groups`);
    const alternatives = [this.#sequence()];
    for (;;) {
      this.#skip(this.#depth > 1);
      const next = /^\s*(?:#[^\n]*\n\s*)*\|/.exec(this.#text.slice(this.#at, this.#at + 2000));
      if (next === null) break;
      this.#at += next[0].length;
      this.#skip(true);
      alternatives.push(this.#sequence());
    }
    this.#depth--;
    return alternatives.length === 1 ? alternatives[0] : choice(...alternatives);
  }

  #sequence(): Expression {
    const parts: Expression[] = [];
    for (;;) {
      this.#skip(this.#depth > 1);
      const part = this.#part();
      if (part === null) break;
      parts.push(this.#repeated(part));
    }
    return parts.length === 1 ? parts[0] : sequence(...parts);
  }

  #part(): Expression | null {
    const next = this.#text[this.#at];
    if (next === '"') return literal(this.#literal());
    if (next === '[') return characters(this.#class());
    if (next === '.') {
      this.#at++;
      return characters(anyCodePoint);
    }
    if (next === '(') {
      this.#at++;
      this.#skip(true);
      const body = this.#choice();
      this.#skip(true);
      if (this.#text[this.#at] !== ')') throw this.#invalid('a group that is not closed');
      this.#at++;
      return body;
    }
    const name = this.#name();
    return name === null ? null : ruleRef(this.#rule(name));
  }

  #repeated(body: Expression): Expression {
    let repeated = body;
    for (;;) {
      const next = this.#text[this.#at];
      if (next === '*') repeated = repeat(repeated, 0, Number.POSITIVE_INFINITY);
      else if (next === '+') repeated = repeat(repeated, 1, Number.POSITIVE_INFINITY);
      else if (next === '?') repeated = repeat(repeated, 0, 1);
      else if (next === '{') {
        const found = /^\{\s*(\d{1,7})\s*(,\s*(\d{0,7})\s*)?\}/.exec(this.#text.slice(this.#at, this.#at + 60));
        if (found === null) throw this.#invalid('malformed bounds of a repetition');
        const min = Number(found[1]);
        const max = found[2] === undefined ? min : found[3] === '' ? Number.POSITIVE_INFINITY : Number(found[3]);
        if (max < min) throw this.#invalid('bounds in the wrong order');
        repeated = repeat(repeated, min, max);
        this.#at += found[0].length - 1;
      } else return repeated;
      this.#at++;
    }
  }

  #literal(): string {
    this.#at++;
    let text = '';
    while (this.#text[this.#at] !== '"') text += this.#character('a literal');
    this.#at++;
    return text;
  }

  #class(): CodePointSet {
    this.#at++;
    const isNegated = this.#text[this.#at] === '^';
    if (isNegated) this.#at++;
    const sets: CodePointSet[] = [];
    while (this.#text[this.#at] !== ']') {
      const lo = this.#character('a class').codePointAt(0) ?? 0;
      let hi = lo;
      if (this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']') {
        this.#at++;
        hi = this.#character('a class').codePointAt(0) ?? 0;
        if (hi < lo) throw this.#invalid('a range in the wrong order');
      }
      sets.push(codePoints([[lo, hi]]));
    }
    this.#at++;
    const set = union(...sets);
    return isNegated ? complement(set) : set;
  }

  #character(where: string): string {
    const value = this.#text.codePointAt(this.#at);
    if (value === undefined || value === 10) throw this.#invalid(`${where} that is not closed`);
    const character = String.fromCodePoint(value);
    this.#at += character.length;
    if (character !== '\\') return character;
    const name = this.#text[this.#at++] ?? '';
    const length = hexLengths[name];
    if (length === undefined) {
      const meant = escapes[name];
      if (meant === undefined) throw this.#invalid(`an unknown escape \\${name}`);
      return meant;
    }
    const hex = this.#text.slice(this.#at, this.#at + length);
    const code = /^[0-9a-fA-F]+$/.test(hex) && hex.length === length ? Number.parseInt(hex, 16) : Number.POSITIVE_INFINITY;
    if (code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) throw this.#invalid('a malformed escape');
    this.#at += length;
    return String.fromCodePoint(code);
  }
}
