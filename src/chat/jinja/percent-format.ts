/** `'%s of %d' % values`, which the filter `format` uses as well. */
import { JinjaError, typeError, valueError } from './errors.ts';
import { floatAs, integerAs, truncated } from './numbers.ts';
import { truthy } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { codePoints, joinTexts, repr, str } from './text.ts';
import { isFloat, isString, numberOf, PyDict, PyTuple, typeName, Undefined, type Value } from './values.ts';

const directive = /%(?:\(([^)]*)\))?([#0\- +]*)(\*|\d+)?(?:\.(\*|\d+)?)?[hlL]?([\s\S]?)/g;

interface Conversion {
  readonly flags: string;
  readonly width: number;
  readonly precision: number | undefined;
  readonly type: string;
}

/** @throws TypeError, ValueError */
export function formatPercent(rt: Runtime, format: string, values: Value): string {
  rt.scan(format.length);
  const source = new Arguments(values);
  const parts: string[] = [];
  let end = 0;
  for (const match of format.matchAll(directive)) {
    parts.push(format.slice(end, match.index));
    end = match.index + match[0].length;
    const [, key, flags, width, precision, type] = match;
    if (type === '%') {
      parts.push('%');
      continue;
    }
    if (type === '') throw valueError('incomplete format');
    const wide = width === '*' ? source.nextInteger() : Number(width ?? 0);
    const precise = match[0].includes('.') ? (precision === '*' ? source.nextInteger() : Number(precision ?? 0)) : undefined;
    const conversion = { flags: wide < 0 ? `${flags}-` : flags, width: Math.abs(wide), precision: precise, type };
    parts.push(convert(rt, conversion, key === undefined ? source.next() : source.named(key)));
  }
  source.finish();
  parts.push(format.slice(end));
  return joinTexts(rt, parts, '');
}

/** The right-hand side of `%`: a tuple, a dict or a single value. */
class Arguments {
  readonly #values: Value;
  readonly #items: Value[];
  #at = 0;

  constructor(values: Value) {
    this.#values = values;
    this.#items = values instanceof PyTuple ? values.items : [values];
  }

  next(): Value {
    if (this.#at >= this.#items.length) throw typeError('not enough arguments for format string');
    return this.#items[this.#at++];
  }

  nextInteger(): number {
    const value = this.next();
    if (typeof value !== 'number' || !Number.isInteger(value)) throw typeError('* wants int');
    return value;
  }

  named(key: string): Value {
    if (!(this.#values instanceof PyDict)) throw typeError('format requires a mapping');
    const value = this.#values.get(key);
    if (value === undefined) throw new JinjaError('KeyError', `'${key}'`);
    return value;
  }

  finish(): void {
    const mayRemain = this.#values instanceof PyDict || Array.isArray(this.#values) || this.#values instanceof Undefined;
    if (this.#at < this.#items.length && !mayRemain) throw typeError('not all arguments converted during string formatting');
  }
}

function convert(rt: Runtime, conversion: Conversion, value: Value): string {
  const { type, precision } = conversion;
  if (type === 's' || type === 'r' || type === 'a') {
    const text = type === 's' ? str(rt, value) : repr(rt, value);
    return padded(rt, conversion, '', precision === undefined ? text : codePoints(rt, text).slice(0, precision).join(''));
  }
  if (type === 'c') return padded(rt, conversion, '', character(value));
  const number = numberOf(value);
  if ('diuxXo'.includes(type)) return integer(rt, conversion, value, number);
  if ('eEfFgG'.includes(type)) {
    if (value instanceof Undefined) value.fail();
    if (number === undefined) throw typeError(`must be real number, not ${typeName(value)}`);
    const size = Math.abs(Number(number));
    return padded(rt, conversion, signOf(conversion.flags, number), floatAs(type, size, precision ?? 6, conversion.flags.includes('#')));
  }
  throw valueError(`unsupported format character '${type}' (0x${type.charCodeAt(0).toString(16)})`);
}

function integer(rt: Runtime, conversion: Conversion, value: Value, number: number | bigint | undefined): string {
  const { type, flags, precision } = conversion;
  if (value instanceof Undefined) value.fail();
  const decimal = 'diu'.includes(type);
  if (number === undefined || (isFloat(value) && !decimal))
    throw typeError(`%${type} format: ${decimal ? 'a real number' : 'an integer'} is required, not ${typeName(value)}`);
  const whole = numberOf(truncated(number)) ?? 0;
  const prefix = flags.includes('#') && !decimal ? `0${type}` : '';
  const digits = integerAs(type, whole < 0 ? -whole : whole);
  const missing = (precision ?? 0) - digits.length;
  if (missing > 0) rt.room(missing);
  return padded(rt, conversion, signOf(flags, whole) + prefix, missing > 0 ? '0'.repeat(missing) + digits : digits);
}

function character(value: Value): string {
  if (isString(value)) {
    const text = typeof value === 'string' ? value : value.text;
    if (Array.from(text.slice(0, 4)).length !== 1) throw typeError('%c requires int or char');
    return text;
  }
  if (typeof value !== 'number' || !Number.isInteger(value)) throw typeError('%c requires int or char');
  if (value < 0 || value > 0x10ffff) throw new JinjaError('OverflowError', '%c arg not in range(0x110000)');
  return String.fromCodePoint(value);
}

export function signOf(flags: string, number: number | bigint): string {
  if (number < 0 || Object.is(number, -0)) return '-';
  return flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : '';
}

function padded(rt: Runtime, conversion: Conversion, sign: string, text: string): string {
  const missing = conversion.width - sign.length - text.length;
  if (missing <= 0) return sign + text;
  rt.room(conversion.width);
  if (conversion.flags.includes('-')) return sign + text + ' '.repeat(missing);
  if (conversion.flags.includes('0') && !'srac'.includes(conversion.type)) return sign + '0'.repeat(missing) + text;
  return ' '.repeat(missing) + sign + text;
}

/** The filter `format`. */
export function formatFilter(rt: Runtime, format: string, args: Value[], kwargs: ReadonlyMap<string, Value>): string {
  if (args.length > 0 && kwargs.size > 0)
    throw new JinjaError('FilterArgumentError', "can't handle positional and keyword arguments at the same time");
  if (kwargs.size === 0) return formatPercent(rt, format, new PyTuple(args));
  const named = new PyDict();
  for (const [key, value] of kwargs) named.set(key, value);
  return formatPercent(rt, format, truthy(named) ? named : new PyTuple(args));
}
