/**
 * Regular expressions (the common part of ECMA-262 with the `u` flag) as values. Own parser: what it does not know is refused by name, and the
 * result is an automaton, so that no pattern can take exponential time.
 */
import { anyCodePoint, type CodePointSet, codePoints, complement, propertySet, union, whiteSpace } from './code-points.ts';
import { characters, choice, type Expression, repeat, sequence } from './expression.ts';
import { grammarInvalid, grammarLimits, grammarUnsupported, tooLarge } from './limits.ts';

export type Regex =
  | { readonly kind: 'set'; readonly set: CodePointSet }
  | { readonly kind: 'sequence'; readonly parts: readonly Regex[] }
  | { readonly kind: 'choice'; readonly alternatives: readonly Regex[] }
  | { readonly kind: 'repeat'; readonly body: Regex; readonly min: number; readonly max: number }
  /** Look-ahead: what follows here begins with a match of the body, or must not. */
  | { readonly kind: 'ahead'; readonly body: Regex; readonly isNegative: boolean }
  | { readonly kind: 'start' }
  | { readonly kind: 'end' };

const digits = codePoints([[0x30, 0x39]]);
const word = codePoints([
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]);
const lineEnds = codePoints([
  [10, 10],
  [13, 13],
  [0x2028, 0x2029],
]);
const notLineEnd = complement(lineEnds);
const classes: Readonly<Record<string, CodePointSet>> = {
  d: digits,
  w: word,
  s: whiteSpace,
  D: complement(digits),
  W: complement(word),
  S: complement(whiteSpace),
};
const controls: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, v: 11, f: 12, '0': 0 };

/** @throws GRAMMAR_INVALID, GRAMMAR_UNSUPPORTED (look-behind, back references, word boundaries), GRAMMAR_TOO_LARGE */
export function parseRegex(source: string): Regex {
  return new RegexParser(source).parse();
}

class RegexParser {
  readonly #source: string;
  readonly #text: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    if (source.length > 65_536)
      throw tooLarge(`the pattern ${JSON.stringify(source.slice(0, 60))}`, 'at most 65536 characters', String(source.length));
    this.#source = source;
    this.#text = Array.from(source);
  }

  parse(): Regex {
    const regex = this.#choice();
    if (this.#at < this.#text.length) throw this.#invalid(`an unexpected ${this.#text[this.#at]}`);
    return regex;
  }

  #invalid(what: string): Error {
    return grammarInvalid(`The pattern ${JSON.stringify(this.#source.slice(0, 200))} has ${what} at position ${this.#at}.`);
  }

  #unsupported(what: string): Error {
    return grammarUnsupported(`${what} (in the pattern ${JSON.stringify(this.#source.slice(0, 200))})`);
  }

  #take(expected: string): boolean {
    if (this.#text[this.#at] !== expected) return false;
    this.#at++;
    return true;
  }

  #choice(): Regex {
    if (++this.#depth > grammarLimits.nesting)
      throw tooLarge(`the pattern ${JSON.stringify(this.#source.slice(0, 60))}`, `at most ${grammarLimits.nesting} nested groups`);
    const alternatives = [this.#sequence()];
    while (this.#take('|')) alternatives.push(this.#sequence());
    this.#depth--;
    return alternatives.length === 1 ? alternatives[0] : { kind: 'choice', alternatives };
  }

  #sequence(): Regex {
    const parts: Regex[] = [];
    for (;;) {
      const next = this.#text[this.#at];
      if (next === undefined || next === '|' || next === ')') break;
      parts.push(this.#quantified(this.#atom()));
    }
    return parts.length === 1 ? parts[0] : { kind: 'sequence', parts };
  }

  #quantified(body: Regex): Regex {
    const bounds = this.#bounds();
    if (bounds === null) return body;
    if (body.kind === 'start' || body.kind === 'end' || body.kind === 'ahead') throw this.#invalid('a repeated anchor');
    this.#take('?'); // lazy and greedy match the same texts
    const after = this.#text[this.#at];
    if (after === '*' || after === '+' || after === '?') throw this.#invalid('nothing to repeat');
    const [min, max] = bounds;
    if (max < min) throw this.#invalid('bounds in the wrong order');
    return { kind: 'repeat', body, min, max };
  }

  #bounds(): readonly [min: number, max: number] | null {
    if (this.#take('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#take('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#take('?')) return [0, 1];
    if (this.#text[this.#at] !== '{') return null;
    const found = /^\{(\d{1,7})(,(\d{0,7}))?\}/.exec(this.#text.slice(this.#at, this.#at + 20).join(''));
    if (found === null) throw this.#invalid('a brace that opens no bounds (write \\{)');
    this.#at += found[0].length;
    const min = Number(found[1]);
    if (found[2] === undefined) return [min, min];
    return [min, found[3] === '' ? Number.POSITIVE_INFINITY : Number(found[3])];
  }

  #atom(): Regex {
    const character = this.#text[this.#at++];
    switch (character) {
      case '^':
        return { kind: 'start' };
      case '$':
        return { kind: 'end' };
      case '.':
        return { kind: 'set', set: notLineEnd };
      case '(':
        return this.#group();
      case '[':
        return { kind: 'set', set: this.#characterClass() };
      case '\\':
        return { kind: 'set', set: this.#escape(false) };
      case '*':
      case '+':
      case '?':
        throw this.#invalid('nothing to repeat');
      case '{':
        throw this.#invalid('a brace that repeats nothing (write \\{)');
    }
    return { kind: 'set', set: single(character) };
  }

  #group(): Regex {
    if (this.#take('?')) {
      const kind = this.#text[this.#at];
      if (kind === ':') this.#at++;
      else if (kind === '=' || kind === '!') {
        this.#at++;
        return { kind: 'ahead', body: this.#groupBody(), isNegative: kind === '!' };
      } else if (kind === '<' && !['=', '!'].includes(this.#text[this.#at + 1] ?? '=')) {
        while (this.#at < this.#text.length && this.#text[this.#at] !== '>') this.#at++;
        this.#at++;
      } else if (kind === '<') throw this.#unsupported('look-behind');
      else throw this.#unsupported('a group with flags');
    }
    return this.#groupBody();
  }

  #groupBody(): Regex {
    const body = this.#choice();
    if (!this.#take(')')) throw this.#invalid('a group that is not closed');
    return body;
  }

  /** @param inClass `\b` is a backspace there */
  #escape(inClass: boolean): CodePointSet {
    const name = this.#text[this.#at++];
    if (name === undefined) throw this.#invalid('a backslash at its end');
    const known = classes[name];
    if (known !== undefined) return known;
    if (name === 'b' && inClass) return codePoints([[8, 8]]);
    if (name === 'b' || name === 'B') throw this.#unsupported('a word boundary');
    if (name === 'p' || name === 'P') return this.#property(name);
    if (name === 'k' || /[1-9]/.test(name)) throw this.#unsupported('a back reference');
    if (name === 'x') return this.#hex(2);
    if (name === 'u') return this.#unicode();
    if (name === 'c') {
      const letter = this.#text[this.#at++] ?? '';
      if (!/^[A-Za-z]$/.test(letter)) throw this.#invalid('a malformed control escape');
      return single(String.fromCodePoint(letter.charCodeAt(0) & 31));
    }
    if (controls[name] !== undefined) return codePoints([[controls[name], controls[name]]]);
    if (/[A-Za-z0-9]/.test(name)) throw this.#invalid(`an unknown escape \\${name}`);
    return single(name);
  }

  #property(name: 'p' | 'P'): CodePointSet {
    const close = this.#text.indexOf('}', this.#at);
    const text = this.#take('{') && close >= 0 ? this.#text.slice(this.#at, close).join('') : '';
    const set = /^[A-Za-z0-9_=]{1,60}$/.test(text) ? propertySet(text) : null;
    if (set === null) throw this.#invalid('an unknown Unicode property');
    this.#at = close + 1;
    return name === 'p' ? set : complement(set);
  }

  #hex(length: number): CodePointSet {
    const text = this.#text.slice(this.#at, this.#at + length).join('');
    if (text.length !== length || !/^[0-9a-fA-F]+$/.test(text)) throw this.#invalid('a malformed escape');
    this.#at += length;
    const value = Number.parseInt(text, 16);
    return codePoints([[value, value]]);
  }

  #unicode(): CodePointSet {
    if (!this.#take('{')) {
      const rest = this.#text.slice(this.#at, this.#at + 10).join('');
      const pair = /^([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})/.exec(rest);
      if (pair === null) return this.#hex(4);
      this.#at += 10;
      return single(String.fromCharCode(Number.parseInt(pair[1], 16), Number.parseInt(pair[2], 16)));
    }
    const close = this.#text.indexOf('}', this.#at);
    const text = close < 0 ? '' : this.#text.slice(this.#at, close).join('');
    const value = /^[0-9a-fA-F]{1,6}$/.test(text) ? Number.parseInt(text, 16) : Number.POSITIVE_INFINITY;
    if (value > 0x10ffff) throw this.#invalid('a malformed escape');
    this.#at = close + 1;
    return codePoints([[value, value]]);
  }

  #characterClass(): CodePointSet {
    const isNegated = this.#take('^');
    const sets: CodePointSet[] = [];
    while (!this.#take(']')) {
      const from = this.#classMember();
      if (this.#text[this.#at] === '-' && this.#text[this.#at + 1] !== ']' && this.#text[this.#at + 1] !== undefined) {
        this.#at++;
        const to = this.#classMember();
        const [lo, hi] = [onlyMember(from), onlyMember(to)];
        // a class beside a dash makes the dash a plain one
        if (lo === null || hi === null) sets.push(from, single('-'), to);
        else if (lo > hi) throw this.#invalid('a range in the wrong order');
        else sets.push(codePoints([[lo, hi]]));
      } else sets.push(from);
    }
    const set = union(...sets);
    return isNegated ? complement(set) : set;
  }

  #classMember(): CodePointSet {
    const character = this.#text[this.#at++];
    if (character === undefined) throw this.#invalid('a class that is not closed');
    return character === '\\' ? this.#escape(true) : single(character);
  }
}

function single(character: string): CodePointSet {
  const value = character.codePointAt(0) ?? 0;
  return codePoints([[value, value]]);
}

function onlyMember(set: CodePointSet): number | null {
  return set.length === 1 && set[0][0] === set[0][1] ? set[0][0] : null;
}

function asExpression(regex: Regex): Expression {
  switch (regex.kind) {
    case 'set':
      return characters(regex.set);
    case 'sequence':
      return sequence(...regex.parts.map(asExpression));
    case 'choice':
      return choice(...regex.alternatives.map(asExpression));
    case 'repeat':
      return repeat(asExpression(regex.body), regex.min, regex.max);
    default:
      return sequence(); // there are no anchors left
  }
}

const anything: Regex = { kind: 'repeat', body: { kind: 'set', set: anyCodePoint }, min: 0, max: Number.POSITIVE_INFINITY };
const start: Regex = { kind: 'start' };
const end: Regex = { kind: 'end' };

/** A pattern without its look-ahead in front: a text is wanted that is in each of `all` and none of `none`, from end to end. */
export interface WantedTexts {
  readonly all: readonly Regex[];
  readonly none: readonly Regex[];
}

/** The whole texts in which a search for `regex` finds something. @throws GRAMMAR_UNSUPPORTED for look-ahead that does not stand behind `^` in front */
export function searchOf(regex: Regex): WantedTexts {
  const { aheads, rest } = aheadsOf(regex, false);
  return wanted({ kind: 'sequence', parts: [anything, rest, anything] }, aheads);
}

/** The texts that `regex` matches from end to end. @throws GRAMMAR_UNSUPPORTED for look-ahead that does not stand in front */
export function wholeOf(regex: Regex): WantedTexts {
  const { aheads, rest } = aheadsOf(regex, true);
  return wanted(rest, aheads);
}

type Ahead = Extract<Regex, { kind: 'ahead' }>;

function wanted(main: Regex, aheads: readonly Ahead[]): WantedTexts {
  const texts = (isNegative: boolean) =>
    aheads.filter((ahead) => ahead.isNegative === isNegative).map(({ body }): Regex => ({ kind: 'sequence', parts: [start, body, anything] }));
  return { all: [main, ...texts(false)], none: texts(true) };
}

/** @param isWhole the pattern begins where the text does, `^` or not */
function aheadsOf(regex: Regex, isWhole: boolean): { aheads: readonly Ahead[]; rest: Regex } {
  const parts = regex.kind === 'sequence' ? regex.parts : [regex];
  const aheads: Ahead[] = [];
  const kept: Regex[] = [];
  let isFront = isWhole;
  for (const part of parts) {
    if (part.kind === 'ahead' && isFront) aheads.push(part);
    else kept.push(part);
    if (part.kind === 'start' && kept.every(({ kind }) => kind === 'start')) isFront = true;
    else if (part.kind !== 'ahead') isFront = false;
  }
  return { aheads, rest: { kind: 'sequence', parts: kept } };
}

/** A pattern for the whole output as an expression, where it needs no automaton of its own; null where it does. */
export function plainExpression(regex: Regex): Expression | null {
  let parts = regex.kind === 'sequence' ? [...regex.parts] : [regex];
  while (parts[0]?.kind === start.kind) parts = parts.slice(1);
  while (parts.at(-1)?.kind === end.kind) parts = parts.slice(0, -1);
  return parts.some(hasAnchor) ? null : sequence(...parts.map(asExpression));
}

function hasAnchor(regex: Regex): boolean {
  switch (regex.kind) {
    case 'set':
      return false;
    case 'sequence':
      return regex.parts.some(hasAnchor);
    case 'choice':
      return regex.alternatives.some(hasAnchor);
    case 'repeat':
      return hasAnchor(regex.body);
    default:
      return true;
  }
}
