/** Filters on text and numbers. */
import { bind } from './arguments.ts';
import { integerOf, repeatText } from './arithmetic.ts';
import { JinjaError, typeError, valueError } from './errors.ts';
import type { Filter } from './filters.ts';
import { toJson } from './json.ts';
import { fixedText, parseFloating, parseInteger, round, truncated } from './numbers.ts';
import { iterate, lengthOf, truthy, unpack } from './operators.ts';
import { formatFilter } from './percent-format.ts';
import type { Runtime } from './runtime.ts';
import { capitalize, lower, upper } from './string-cases.ts';
import { centerLeft, strip } from './string-methods.ts';
import { codePoints, escapeHtml, isSpace, joinTexts, replaceText, repr, splitLines, str, textLength } from './text.ts';
import { isFloat, isString, type Kwargs, Markup, makeFloat, makeInt, numberOf, PyDict, typeName, Undefined, type Value } from './values.ts';
import { wordWrap } from './word-wrap.ts';

type TextChange = (rt: Runtime, text: string, args: (Value | undefined)[]) => string;

/** A filter of a string that makes a string; markup stays markup. */
function onText(
  name: string,
  parameters: readonly string[],
  run: (rt: Runtime, text: string, args: (Value | undefined)[]) => string,
): [string, Filter] {
  return [
    name,
    (rt, value, args, kwargs) => {
      const changed = run(rt, str(rt, value), bind(name, parameters, args, kwargs));
      return value instanceof Markup ? new Markup(changed) : changed;
    },
  ];
}

/** Words start behind white space and a few signs; other than `str.title`, digits and apostrophes do not start one. */
function titleFilter(rt: Runtime, text: string): string {
  rt.room(text.length * 2);
  let changed = '';
  let start = true;
  for (const character of text) {
    changed += start ? character.toUpperCase() : character.toLowerCase();
    start = '-({[<'.includes(character) || isSpace(character.charCodeAt(0));
  }
  return changed;
}

/** For filters that ask more of a value than its text. */
function textFilter(name: string, parameters: readonly string[], refuse: (value: Value) => never, run: TextChange): [string, Filter] {
  const [, filter] = onText(name, parameters, run);
  return [
    name,
    (rt, value, args, kwargs) => {
      if (value instanceof Undefined) value.fail();
      return isString(value) ? filter(rt, value, args, kwargs) : refuse(value);
    },
  ];
}

function hasNoLines(value: Value): never {
  throw new JinjaError('AttributeError', `'${typeName(value)}' object has no attribute 'splitlines'`);
}

function cannotBeIndented(value: Value): never {
  if (Array.isArray(value)) hasNoLines(value);
  throw typeError(`unsupported operand type(s) for +=: '${typeName(value)}' and 'str'`);
}

function indent(rt: Runtime, text: string, [width = 4, first = false, blank = false]: (Value | undefined)[]): string {
  const margin = isString(width) ? str(rt, width) : repeatText(rt, ' ', integerOf(rt, width));
  const lines = splitLines(rt, `${text}\n`);
  rt.roomForItems(lines.length);
  const indented = lines.map((line, i) => (i > 0 && (truthy(blank) || line !== '') ? margin : '') + line);
  return (truthy(first) ? margin : '') + joinTexts(rt, indented, '\n');
}

function truncate(rt: Runtime, text: string, [limit = 255, killWords = false, end = '...', leeway = 5]: (Value | undefined)[]): string {
  const points = codePoints(rt, text);
  const tail = str(rt, end);
  const length = integerOf(rt, limit);
  const tailLength = textLength(rt, tail);
  if (length < tailLength) throw new JinjaError('AssertionError', `expected length >= ${tailLength}, got ${length}`);
  const slack = leeway === null ? 5 : integerOf(rt, leeway);
  if (slack < 0) throw new JinjaError('AssertionError', `expected leeway >= 0, got ${slack}`);
  if (points.length <= length + slack) return text;
  const kept = points.slice(0, length - tailLength).join('');
  const space = truthy(killWords) ? -1 : kept.lastIndexOf(' ');
  return (space < 0 ? kept : kept.slice(0, space)) + tail;
}

function truncateFilter(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const bound = bind('truncate', ['length', 'killwords', 'end', 'leeway'], args, kwargs);
  if (isString(value)) return truncate(rt, str(rt, value), bound);
  const length = lengthOf(rt, value);
  if (length === undefined) throw typeError(`object of type '${typeName(value)}' has no len()`);
  if (length > integerOf(rt, bound[0] ?? 255)) throw new JinjaError('AttributeError', `'${typeName(value)}' object has no attribute 'rsplit'`);
  return value;
}

function center(rt: Runtime, text: string, [given = 80]: (Value | undefined)[]): string {
  const width = integerOf(rt, given);
  const missing = width - textLength(rt, text);
  if (missing <= 0) return text;
  const left = centerLeft(missing, width);
  return repeatText(rt, ' ', left) + text + repeatText(rt, ' ', missing - left);
}

function join(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs, item: (item: Value, attribute: Value) => Value): string {
  const [separator = '', attribute = null] = bind('join', ['d', 'attribute'], args, kwargs);
  const texts: string[] = [];
  for (const each of iterate(rt, value)) {
    texts.push(str(rt, attribute === null ? each : item(each, attribute)));
    rt.grow(texts.length);
  }
  return joinTexts(rt, texts, str(rt, separator));
}

export function joinFilter(item: (rt: Runtime, item: Value, attribute: Value) => Value): Filter {
  return (rt, value, args, kwargs) => join(rt, value, args, kwargs, (each, attribute) => item(rt, each, attribute));
}

function toInt(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [fallback = 0, base = 10] = bind('int', ['default', 'base'], args, kwargs);
  if (value instanceof Undefined) value.fail();
  if (isString(value)) {
    const text = str(rt, value);
    rt.scan(Math.min(text.length, 10_000));
    const floating = (): number | undefined => parseFloating(text);
    const integer = parseInteger(text, integerOf(rt, base));
    if (integer !== undefined) return integer;
    const number = floating();
    return number === undefined || !Number.isFinite(number) ? fallback : truncated(number);
  }
  const number = numberOf(value);
  if (number === undefined || Number.isNaN(number)) return fallback;
  return truncated(number);
}

function toFloat(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [fallback = makeFloat(0)] = bind('float', ['default'], args, kwargs);
  if (value instanceof Undefined) value.fail();
  const number = isString(value) ? parseFloating(str(rt, value)) : numberOf(value);
  return number === undefined ? fallback : makeFloat(Number(number));
}

function roundFilter(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [precision = 0, method = 'common'] = bind('round', ['precision', 'method'], args, kwargs);
  if (method !== 'common' && method !== 'ceil' && method !== 'floor')
    throw new JinjaError('FilterArgumentError', 'method must be common, ceil or floor');
  const digits = integerOf(rt, precision);
  if (method === 'common') return round(value, digits);
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === undefined) throw typeError(`unsupported operand type(s) for *: '${typeName(value)}' and 'int'`);
  const unit = 10 ** digits;
  return makeFloat((method === 'ceil' ? Math.ceil(Number(number) * unit) : Math.floor(Number(number) * unit)) / unit);
}

function fileSize(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [binary = false] = bind('filesizeformat', ['binary'], args, kwargs);
  if (value instanceof Undefined) value.fail();
  const number = isString(value) ? parseFloating(str(rt, value)) : numberOf(value);
  if (number === undefined && isString(value)) throw valueError(`could not convert string to float: ${repr(rt, str(rt, value))}`);
  if (number === undefined) throw typeError(`float() argument must be a string or a real number, not '${typeName(value)}'`);
  const bytes = Number(number);
  const base = truthy(binary) ? 1024 : 1000;
  if (bytes === 1) return '1 Byte';
  if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
  const letters = ['k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'];
  let step = 0;
  while (step < letters.length - 1 && bytes >= base ** (step + 2)) step++;
  const letter = truthy(binary) ? `${letters[step].toUpperCase()}i` : letters[step];
  return `${fixedText((base * bytes) / base ** (step + 2), 1)} ${letter}B`;
}

function urlEncode(rt: Runtime, value: Value): Value {
  const quote = (part: Value, query: boolean): string => {
    const text = str(rt, part);
    rt.room(text.length * 9);
    const quoted = encodeURIComponent(text.replace(/\p{Cs}/gu, '\ufffd')).replace(
      /[!'()*]/g,
      (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
    );
    return query ? quoted.replaceAll('%20', '+') : quoted.replaceAll('%2F', '/');
  };
  if (isString(value) || lengthOf(rt, value) === undefined) return quote(value, false);
  const pairs: string[] = [];
  for (const pair of value instanceof PyDict ? value.entries() : iterate(rt, value)) {
    const [key, item] = unpack(rt, Array.isArray(pair) ? [...pair] : pair, 2);
    pairs.push(`${quote(key, true)}=${quote(item, true)}`);
  }
  return joinTexts(rt, pairs, '&');
}

/** Comments go first, then whatever stands between angle brackets. */
function stripTags(rt: Runtime, text: string): string {
  const bare = without(rt, without(rt, text, '<!--', '-->'), '<', '>');
  return bare.split(/\s+/).filter(Boolean).join(' ');
}

function without(rt: Runtime, text: string, open: string, close: string): string {
  rt.room(text.length);
  let kept = '';
  let at = 0;
  for (let start = text.indexOf(open); start >= 0; start = text.indexOf(open, at)) {
    rt.step();
    const end = text.indexOf(close, start);
    if (end < 0) break;
    kept += text.slice(at, start);
    at = end + close.length;
  }
  return kept + text.slice(at);
}

function absolute(_: Runtime, value: Value): Value {
  if (value instanceof Undefined) throw typeError("bad operand type for abs(): 'Undefined'");
  const number = numberOf(value);
  if (number === undefined) throw typeError(`bad operand type for abs(): '${typeName(value)}'`);
  return isFloat(value) ? makeFloat(Math.abs(Number(number))) : makeInt(number < 0 ? -number : number);
}

export const textFilters: readonly [string, Filter][] = [
  onText('upper', [], upper),
  onText('lower', [], lower),
  onText('capitalize', [], capitalize),
  onText('title', [], titleFilter),
  onText('trim', ['chars'], (rt, text, [characters]) => strip(rt, text, characters, 'both')),
  textFilter('indent', ['width', 'first', 'blank'], cannotBeIndented, indent),
  ['truncate', truncateFilter],
  onText('center', ['width'], center),
  textFilter('wordwrap', ['width', 'break_long_words', 'wrapstring', 'break_on_hyphens'], hasNoLines, wordWrap),
  ['string', (rt, value) => (isString(value) ? value : str(rt, value))],
  ['safe', (rt, value) => (value instanceof Markup ? value : new Markup(str(rt, value)))],
  ['escape', escapeFilter],
  ['e', escapeFilter],
  ['forceescape', (rt, value) => new Markup(escapeHtml(rt, str(rt, value)))],
  ['striptags', (rt, value) => stripTags(rt, str(rt, value))],
  ['replace', replace],
  ['format', (rt, value, args, kwargs) => formatFilter(rt, str(rt, value), args, kwargs)],
  ['wordcount', (rt, value) => wordCount(rt, str(rt, value))],
  ['urlencode', urlEncode],
  ['tojson', toJson],
  ['int', toInt],
  ['float', toFloat],
  ['round', roundFilter],
  ['abs', absolute],
  ['filesizeformat', fileSize],
];

function escapeFilter(rt: Runtime, value: Value): Value {
  return value instanceof Markup ? value : new Markup(escapeHtml(rt, str(rt, value)));
}

function replace(rt: Runtime, value: Value, args: Value[], kwargs: Kwargs): Value {
  const [old = '', replacement = '', count = null] = bind('replace', ['old!', 'new!', 'count'], args, kwargs);
  return replaceText(rt, str(rt, value), str(rt, old), str(rt, replacement), count === null ? -1 : integerOf(rt, count));
}

function wordCount(rt: Runtime, text: string): number {
  let words = 0;
  rt.scan(text.length * 2);
  for (const _ of text.matchAll(/[\p{L}\p{N}_]+/gu)) {
    rt.step();
    words++;
  }
  return words;
}
