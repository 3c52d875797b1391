/**
 * A template's text as tokens (https://jinja.palletsprojects.com/en/stable/templates/), with `trim_blocks` and `lstrip_blocks` on as
 * transformers has them: the line break behind a block goes, and the blanks before it.
 */
import { syntaxError } from './errors.ts';
import { skipSpace, skipSpaceBack } from './text.ts';

export type TokenType =
  | 'data'
  | 'variable_begin'
  | 'variable_end'
  | 'block_begin'
  | 'block_end'
  | 'name'
  | 'string'
  | 'integer'
  | 'float'
  | 'operator'
  | 'eof';

export interface Token {
  readonly type: TokenType;
  /** Of a string what it stands for, of all else the spelling. */
  readonly value: string;
  readonly line: number;
}

/** @throws TemplateSyntaxError */
export function tokenize(template: string): Token[] {
  return new Lexer(template).run();
}

const rawBegin = /\{%[-+]?\s*raw\s*(-%\}\s*|%\})/y;
const rawEnd = /\{%([-+]?)\s*endraw\s*(?:\+%\}|-%\}\s*|%\}\n?)/g;
const float = /(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const integer = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const name = /[\p{L}\p{N}\p{M}_]+/uy;
const identifier = /^[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Mn}\p{Mc}\p{Nd}\p{Pc}]*$/u;
const quoted = /'[^'\\]*(?:\\[\s\S][^'\\]*)*'|"[^"\\]*(?:\\[\s\S][^"\\]*)*"/y;
const operator = /\*\*|\/\/|==|!=|>=|<=|[-+*/%~[\](){}<>=.:|,;]/y;
const closing: ReadonlyMap<string, string> = new Map([
  ['(', ')'],
  ['[', ']'],
  ['{', '}'],
]);

class Lexer {
  readonly #source: string;
  readonly #tokens: Token[] = [];
  #at = 0;
  #line = 1;
  /** The next line break that is not counted yet. */
  #nextBreak: number;
  /** Whether what was read last ended with a line break. */
  #lineStarts = true;

  constructor(template: string) {
    this.#source = template.replace(/\r\n?/g, '\n').replace(/\n$/, '');
    this.#nextBreak = this.#source.indexOf('\n');
  }

  run(): Token[] {
    while (this.#at < this.#source.length) this.#readText();
    this.#push('eof', '');
    return this.#tokens;
  }

  #push(type: TokenType, value: string): void {
    while (this.#nextBreak >= 0 && this.#nextBreak < this.#at) {
      this.#line++;
      this.#nextBreak = this.#source.indexOf('\n', this.#nextBreak + 1);
    }
    this.#tokens.push({ type, value, line: this.#line });
  }

  #fail(message: string): never {
    this.#push('eof', '');
    throw syntaxError(message, this.#line);
  }

  #moveTo(end: number): void {
    this.#lineStarts = end > 0 && this.#source[end - 1] === '\n';
    this.#at = end;
  }

  /** Text up to the next tag, and the tag. */
  #readText(): void {
    const start = this.#nextTag(this.#at);
    const text = this.#source.slice(this.#at, start);
    if (start === this.#source.length) {
      this.#data(text);
      this.#moveTo(start);
      return;
    }
    const kind = this.#source[start + 1];
    const sign = this.#source[start + 2];
    this.#data(this.#strippedBefore(text, sign, kind !== '{'));
    const raw = kind === '%' ? match(rawBegin, this.#source, start) : null;
    if (raw !== null) {
      this.#moveTo(start + raw.length);
      this.#readRaw();
      return;
    }
    this.#moveTo(start + (sign === '-' || sign === '+' ? 3 : 2));
    if (kind === '#') this.#skipComment();
    else this.#readTag(kind === '{' ? 'variable' : 'block');
  }

  #nextTag(from: number): number {
    for (let i = this.#source.indexOf('{', from); i >= 0; i = this.#source.indexOf('{', i + 1)) {
      const next = this.#source[i + 1];
      if (next === '{' || next === '%' || next === '#') return i;
    }
    return this.#source.length;
  }

  #strippedBefore(text: string, sign: string | undefined, isBlock: boolean): string {
    if (sign === '-') return text.slice(0, skipSpaceBack(text));
    if (sign === '+' || !isBlock) return text;
    const line = text.lastIndexOf('\n') + 1;
    return (line > 0 || this.#lineStarts) && skipSpace(text, line) === text.length ? text.slice(0, line) : text;
  }

  #data(text: string): void {
    if (text !== '') this.#push('data', text);
  }

  #readRaw(): void {
    rawEnd.lastIndex = this.#at;
    const end = rawEnd.exec(this.#source);
    if (end === null && this.#at >= this.#source.length) return;
    if (end === null) this.#fail('Missing end of raw directive');
    this.#data(this.#strippedBefore(this.#source.slice(this.#at, end.index), end[1], true));
    this.#moveTo(end.index + end[0].length);
  }

  #skipComment(): void {
    const end = this.#source.indexOf('#}', this.#at);
    if (end < 0 && this.#at >= this.#source.length) return;
    if (end < 0) this.#fail('Missing end of comment tag');
    const sign = end > this.#at ? this.#source[end - 1] : '';
    this.#closeTag(end + 2, sign, true);
  }

  /** What follows the end of a tag: all white space goes behind `-`, a line break behind a block or comment. */
  #closeTag(end: number, sign: string, trims: boolean): void {
    if (sign === '-') this.#moveTo(skipSpace(this.#source, end));
    else this.#moveTo(trims && sign !== '+' && this.#source[end] === '\n' ? end + 1 : end);
  }

  #readTag(kind: 'variable' | 'block'): void {
    this.#push(kind === 'variable' ? 'variable_begin' : 'block_begin', '');
    const open: string[] = [];
    const end = kind === 'variable' ? '}}' : '%}';
    for (;;) {
      this.#at = skipSpace(this.#source, this.#at);
      if (this.#at >= this.#source.length) return;
      if (open.length === 0) {
        const first = this.#source[this.#at];
        const sign = (first === '-' || (first === '+' && kind === 'block')) && this.#source.startsWith(end, this.#at + 1) ? first : '';
        if (sign !== '' || this.#source.startsWith(end, this.#at)) {
          this.#push(kind === 'variable' ? 'variable_end' : 'block_end', '');
          this.#closeTag(this.#at + sign.length + 2, sign, kind === 'block');
          return;
        }
      }
      this.#readToken(open);
    }
  }

  #readToken(open: string[]): void {
    const at = this.#at;
    const number = this.#source[at - 1] === '.' ? null : match(float, this.#source, at);
    const whole = number === null ? match(integer, this.#source, at) : null;
    const word = number === null && whole === null ? match(name, this.#source, at) : null;
    const text = match(quoted, this.#source, at);
    if (number !== null) this.#accept('float', number, number);
    else if (whole !== null) this.#accept('integer', whole, whole);
    else if (word !== null) {
      if (!identifier.test(word)) this.#fail('Invalid character in identifier');
      this.#accept('name', word, word);
    } else if (text !== null) this.#accept('string', text, this.#unescaped(text.slice(1, -1)));
    else this.#readOperator(open);
  }

  #readOperator(open: string[]): void {
    const sign = match(operator, this.#source, this.#at);
    if (sign === null) this.#fail(`unexpected char '${this.#source[this.#at]}' at ${this.#at}`);
    const closes = closing.get(sign);
    if (closes !== undefined) open.push(closes);
    else if (sign === ')' || sign === ']' || sign === '}') {
      const expected = open.pop();
      if (expected === undefined) this.#fail(`unexpected '${sign}'`);
      if (expected !== sign) this.#fail(`unexpected '${sign}', expected '${expected}'`);
    }
    this.#accept('operator', sign, sign);
  }

  #accept(type: TokenType, spelling: string, value: string): void {
    this.#push(type, value);
    this.#at += spelling.length;
  }

  #unescaped(text: string): string {
    if (!text.includes('\\')) return text;
    return text.replace(/\\(x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[0-7]{1,3}|[\s\S])/g, (whole, code: string) => {
      const short = shortEscapes.get(code);
      if (short !== undefined) return short;
      if (code.length === 1 && !/[0-7]/.test(code)) {
        if ('xuUN'.includes(code)) this.#fail(`'unicodeescape' codec can't decode: truncated \\${code} escape`);
        return whole;
      }
      const point = Number.parseInt(/^[xuU]/.test(code) ? code.slice(1) : code, /^[xuU]/.test(code) ? 16 : 8);
      if (Number.isNaN(point)) return whole;
      if (point > 0x10ffff) this.#fail('illegal Unicode character');
      return String.fromCodePoint(point);
    });
  }
}

const shortEscapes: ReadonlyMap<string, string> = new Map([
  ['\n', ''],
  ['\\', '\\'],
  ["'", "'"],
  ['"', '"'],
  ['a', '\x07'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['v', '\v'],
]);

/** What the sticky pattern matches there. */
function match(pattern: RegExp, source: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(source)?.[0] ?? null;
}
