/** Python's `str` and `repr`, and strings as sequences of code points. */
import { TemplateTooLarge, valueError } from './errors.ts';
import type { Runtime } from './runtime.ts';
import { TextBuilder } from './text-builder.ts';
import {
  identity,
  Markup,
  Namespace,
  PyDict,
  PyFloat,
  PyFunction,
  PyIterator,
  type PyObject,
  PyRange,
  PyTuple,
  PyView,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** White space as `str.isspace` has it; JavaScript's differs in a few characters. */
export const whitespace = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const spaceCodes = new Set<number>();
for (let code = 0; code <= 0x3000; code++) if (new RegExp(`[${whitespace}]`).test(String.fromCharCode(code))) spaceCodes.add(code);

export function isSpace(code: number): boolean {
  return code === 32 || (code <= 13 && code >= 9) || spaceCodes.has(code);
}

/** Index of the first character that is not white space. */
export function skipSpace(text: string, from = 0): number {
  let at = from;
  while (at < text.length && isSpace(text.charCodeAt(at))) at++;
  return at;
}

/** Index behind the last character that is not white space. */
export function skipSpaceBack(text: string, floor = 0): number {
  let at = text.length;
  while (at > floor && isSpace(text.charCodeAt(at - 1))) at--;
  return at;
}

const surrogate = /[\ud800-\udfff]/;

/** Whether the string's indices differ from those of its code points. */
export function isWide(text: string): boolean {
  return surrogate.test(text);
}

export function codePoints(rt: Runtime, text: string): string[] {
  rt.roomForItems(text.length);
  return isWide(text) ? Array.from(text) : text.split('');
}

/** `len(text)` */
export function textLength(rt: Runtime, text: string): number {
  rt.scan(text.length);
  if (!isWide(text)) return text.length;
  let length = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0xd800 && code < 0xdc00 && i + 1 < text.length && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00) i++;
    length++;
  }
  return length;
}

export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, exponent] = value.toExponential().split('e');
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, '0')}`;
  }
  const text = String(value);
  return text.includes('.') ? text : `${text}.0`;
}

/** Python refuses longer ones as well. */
const longestInt = 10n ** 4300n;

function intText(value: bigint): string {
  if (value > longestInt || value < -longestInt) throw valueError('Exceeds the limit (4300 digits) for integer string conversion');
  return String(value);
}

/** `str(value)` */
export function str(rt: Runtime, value: Value): string {
  if (typeof value === 'string') return value;
  if (value instanceof Markup) return value.text;
  if (value instanceof Undefined) return '';
  if (typeof value === 'number' && Number.isInteger(value)) return String(value);
  return repr(rt, value);
}

/** `repr(value)` */
export function repr(rt: Runtime, value: Value): string {
  const builder = new TextBuilder(rt);
  new Representation(rt, builder).add(value, 0);
  return builder.text();
}

const maxReprDepth = 200;

/** Collects pieces, so that a list which holds itself many times over runs into the bound and not out of memory. */
class Representation {
  readonly #rt: Runtime;
  readonly #builder: TextBuilder;

  constructor(rt: Runtime, builder: TextBuilder) {
    this.#rt = rt;
    this.#builder = builder;
  }

  #put(text: string): void {
    this.#builder.add(text);
  }

  add(value: Value, depth: number): void {
    if (depth > maxReprDepth) throw new TemplateTooLarge(`it prints data nested deeper than ${maxReprDepth} levels`);
    if (value === null) this.#put('None');
    else if (typeof value === 'boolean') this.#put(value ? 'True' : 'False');
    else if (typeof value === 'string') this.#put(stringRepr(this.#rt, value));
    else if (typeof value === 'number') this.#put(Number.isInteger(value) ? String(value) : floatText(value));
    else if (typeof value === 'bigint') this.#put(intText(value));
    else if (Array.isArray(value)) this.#sequence('[', value, ']', depth);
    else if (value instanceof PyTuple) this.#sequence('(', value.items, value.items.length === 1 ? ',)' : ')', depth);
    else if (value instanceof PyDict) this.#dict(value, depth);
    else if (value instanceof PyView) {
      this.#put(`${value.typeName}(`);
      this.#sequence('[', value, ']', depth);
      this.#put(')');
    } else if (value instanceof Namespace) {
      this.#put('<Namespace ');
      const attributes = new PyDict();
      for (const [name, item] of value.attributes) attributes.set(name, item);
      this.#dict(attributes, depth);
      this.#put('>');
    } else this.#put(this.#object(value));
  }

  #sequence(open: string, items: Iterable<Value>, close: string, depth: number): void {
    this.#put(open);
    let first = true;
    for (const item of items) {
      if (!first) this.#put(', ');
      first = false;
      this.add(item, depth + 1);
    }
    this.#put(close);
  }

  #dict(dict: PyDict, depth: number): void {
    this.#put('{');
    let first = true;
    for (const [key, item] of dict.entries()) {
      if (!first) this.#put(', ');
      first = false;
      this.add(key, depth + 1);
      this.#put(': ');
      this.add(item, depth + 1);
    }
    this.#put('}');
  }

  #object(value: PyObject): string {
    if (value instanceof PyFloat) return floatText(value.value);
    if (value instanceof Markup) return `Markup(${stringRepr(this.#rt, value.text)})`;
    if (value instanceof Undefined) return 'Undefined';
    if (value instanceof PyRange) return `range(${value.start}, ${value.stop}${value.step === 1 ? '' : `, ${value.step}`})`;
    if (value instanceof PyFunction) return `<${value.typeName} ${value.name}>`;
    if (value instanceof PyIterator) return `<${value.typeName} object at 0x${identity(value).toString(16).padStart(12, '0')}>`;
    const name = value.attribute('name');
    return typeof name === 'string' ? `<${typeName(value)} ${stringRepr(this.#rt, name)}>` : `<${typeName(value)}>`;
  }
}

const plainText = /^[\x20-\x26\x28-\x5b\x5d-\x7e]*$/;
const escapes: ReadonlyMap<string, string> = new Map([
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  ['\\', '\\\\'],
]);
const unprintable = /[\\\n\r\t]|(?! )[\p{C}\p{Z}]/gu;

export function stringRepr(rt: Runtime, text: string): string {
  rt.scan(text.length);
  if (plainText.test(text)) return `'${text}'`;
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(unprintable, escapeCharacter);
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

function escapeCharacter(character: string): string {
  const short = escapes.get(character);
  if (short !== undefined) return short;
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, '0')}` : `\\U${code.toString(16).padStart(8, '0')}`;
}

/** What ends a line; the separators of files, groups and records do as well. */
const lineEnds = '\\n\\r\\v\\f\\x1c-\\x1e\\x85\\u2028\\u2029';
const lineEnd = new RegExp(`\\r\\n|[${lineEnds}]`, 'g');

/** `str.splitlines` */
export function splitLines(rt: Runtime, text: string, keepEnds = false): string[] {
  rt.room(text.length);
  const lines: string[] = [];
  let start = 0;
  for (const match of text.matchAll(lineEnd)) {
    rt.step();
    lines.push(text.slice(start, keepEnds ? match.index + match[0].length : match.index));
    start = match.index + match[0].length;
  }
  if (start < text.length) lines.push(text.slice(start));
  return lines;
}

/** `str(separator).join(texts)` */
export function joinTexts(rt: Runtime, texts: readonly string[], separator: string): string {
  let length = separator.length * Math.max(0, texts.length - 1);
  for (const text of texts) length += text.length;
  rt.room(length);
  return texts.join(separator);
}

/** `text.replace(old, new, count)`; every occurrence when `count` is negative. */
export function replaceText(rt: Runtime, text: string, old: string, replacement: string, count = -1): string {
  rt.scan(text.length);
  if (count === 0) return text;
  const pieces = old === '' ? ['', ...codePoints(rt, text), ''] : text.split(old);
  rt.roomForItems(pieces.length);
  if (pieces.length === 1) return text;
  const kept = count < 0 ? pieces.length - 1 : Math.min(count, pieces.length - 1);
  const rest = pieces.splice(kept + 1);
  const head = joinTexts(rt, pieces, replacement);
  return rest.length === 0 ? head : joinTexts(rt, [head, ...rest], old);
}

export function escapeHtml(rt: Runtime, text: string): string {
  rt.scan(text.length);
  if (!/[&<>'"]/.test(text)) return text;
  rt.room(text.length * 2);
  const escaped = text.replace(/[&<>'"]/g, (character) => htmlEscapes.get(character) ?? character);
  rt.room(escaped.length);
  return escaped;
}

const htmlEscapes: ReadonlyMap<string, string> = new Map([
  ['&', '&amp;'],
  ['<', '&lt;'],
  ['>', '&gt;'],
  ["'", '&#39;'],
  ['"', '&#34;'],
]);
