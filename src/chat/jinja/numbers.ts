/** Numbers as text: rounding as Python rounds, and the presentation types that `%` and `format` share. */
import { JinjaError, TemplateTooLarge, typeError, valueError } from './errors.ts';
import { floatText, isSpace, skipSpace, skipSpaceBack } from './text.ts';
import { isFloat, makeFloat, makeInt, numberOf, typeName, type Value } from './values.ts';

const maxPrecision = 100;

/** `'%.{digits}f' % value`: exact, halves to even. */
export function fixedText(value: number, digits: number): string {
  if (!Number.isFinite(value)) return floatText(value);
  if (digits > maxPrecision) throw new TemplateTooLarge(`it formats a number with more than ${maxPrecision} digits`);
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  const size = Math.abs(value);
  if (size >= 1e21) return `${sign}${BigInt(size)}${digits > 0 ? `.${'0'.repeat(digits)}` : ''}`;
  const text = size.toFixed(digits);
  // Only here does JavaScript round otherwise: a half that binary holds exactly goes up.
  const scaled = size * 10 ** digits;
  if (digits <= 20 && scaled % 1 === 0.5 && size.toFixed(Math.min(100, digits + 30)).endsWith(`5${'0'.repeat(29)}`) && Math.floor(scaled) % 2 === 0)
    return sign + shortened(size, digits);
  return sign + text;
}

/** Cuts behind the last digit, without rounding. */
function shortened(size: number, digits: number): string {
  const long = size.toFixed(digits + 30);
  const point = long.indexOf('.');
  return digits === 0 ? long.slice(0, point) : long.slice(0, point + 1 + digits);
}

/** `round(value, digits)` */
export function round(value: Value, digits: number): Value {
  const number = numberOf(value);
  if (number === undefined) throw typeError(`type ${typeName(value)} doesn't define __round__ method`);
  if (isFloat(value)) {
    if (!Number.isFinite(Number(number))) return value;
    if (digits < 0) return makeFloat(Number(roundInteger(BigInt(Math.round(Number(number))), -digits)));
    return digits > 22 ? value : makeFloat(Number(fixedText(Number(number), digits)));
  }
  return digits >= 0 ? makeInt(number) : makeInt(roundInteger(BigInt(number), -digits));
}

function roundInteger(value: bigint, zeros: number): bigint {
  if (zeros > 400) return 0n;
  const unit = 10n ** BigInt(zeros);
  const rest = ((value % unit) + unit) % unit;
  const down = value - rest;
  const up = rest * 2n > unit || (rest * 2n === unit && (down / unit) % 2n !== 0n);
  return up ? down + unit : down;
}

/** `int(text, base)`, undefined where Python raises ValueError. */
export function parseInteger(text: string, base: number): Value | undefined {
  const trimmed = text.slice(skipSpace(text), skipSpaceBack(text));
  const match = /^([+-]?)(0[xX]_?|0[oO]_?|0[bB]_?)?([0-9a-zA-Z]+(?:_[0-9a-zA-Z]+)*)$/.exec(trimmed);
  if (match === null || trimmed.length > 4300) return undefined;
  let radix = base;
  let digits = match[3].replaceAll('_', '').toLowerCase();
  if (match[2] !== undefined) {
    const named = { x: 16, o: 8, b: 2 }[match[2][1].toLowerCase() as 'x' | 'o' | 'b'];
    if (base === 0 || base === named) radix = named;
    else digits = `${match[2].replaceAll('_', '').toLowerCase()}${digits}`;
  } else if (base === 0) {
    if (/^0\d*[1-9]/.test(digits)) return undefined;
    radix = 10;
  }
  let value = 0n;
  for (const digit of digits) {
    const worth = Number.parseInt(digit, 36);
    if (Number.isNaN(worth) || worth >= radix) return undefined;
    value = value * BigInt(radix) + BigInt(worth);
  }
  return makeInt(match[1] === '-' ? -value : value);
}

/** `float(text)`, undefined where Python raises ValueError. */
export function parseFloating(text: string): number | undefined {
  const trimmed = text.slice(skipSpace(text), skipSpaceBack(text)).toLowerCase();
  const special = /^([+-]?)(inf|infinity|nan)$/.exec(trimmed);
  if (special !== null) return special[2] === 'nan' ? Number.NaN : special[1] === '-' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (!/^[+-]?(\d+(_\d+)*\.?(\d+(_\d+)*)?|\.\d+(_\d+)*)(e[+-]?\d+(_\d+)*)?$/.test(trimmed)) return undefined;
  return Number(trimmed.replaceAll('_', ''));
}

/** `int(value)` of a number. @throws ValueError, OverflowError */
export function truncated(number: number | bigint): Value {
  if (typeof number === 'bigint') return number;
  if (Number.isNaN(number)) throw valueError('cannot convert float NaN to integer');
  if (!Number.isFinite(number)) throw new JinjaError('OverflowError', 'cannot convert float infinity to integer');
  return makeInt(Math.trunc(number));
}

/** `g`: the shorter of fixed and exponential. */
function generalText(size: number, precision: number, alternate: boolean): string {
  const digits = Math.max(1, Math.min(precision, maxPrecision));
  const exponential = size.toExponential(digits - 1);
  const exponent = Number(exponential.slice(exponential.indexOf('e') + 1));
  const strip = (text: string): string => (alternate || !text.includes('.') ? text : text.replace(/\.?0+$/, ''));
  if (exponent < -4 || exponent >= digits) {
    const [mantissa] = exponential.split('e');
    return strip(mantissa) + exponentText(exponent);
  }
  return strip(size.toFixed(Math.max(0, Math.min(100, digits - 1 - exponent))));
}

function exponentText(exponent: number): string {
  return `e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`;
}

/** A float without its sign by one of the types `e f g %`, upper case or lower case. */
export function floatAs(type: string, size: number, precision: number, alternate = false): string {
  const lower = type.toLowerCase();
  if (precision > maxPrecision) throw new TemplateTooLarge(`it formats a number with more than ${maxPrecision} digits`);
  let text: string;
  if (!Number.isFinite(size)) text = floatText(size);
  else if (lower === 'f') text = fixedText(size, precision);
  else if (lower === '%') text = fixedText(size * 100, precision);
  else if (lower === 'e') {
    const [mantissa, exponent] = size.toExponential(precision).split('e');
    text = mantissa + exponentText(Number(exponent));
  } else text = generalText(size, precision, alternate);
  if (lower === '%') text += '%';
  return type === lower ? text : text.toUpperCase();
}

/** An integer without its sign by one of the types `d x X o b`. */
export function integerAs(type: string, size: number | bigint): string {
  const radix = { x: 16, X: 16, o: 8, b: 2 }[type] ?? 10;
  const text = size.toString(radix);
  return type === 'X' ? text.toUpperCase() : text;
}

/** True when every character is white space and there is one. */
export function isAllSpace(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (!isSpace(text.charCodeAt(i))) return false;
  return text.length > 0;
}
