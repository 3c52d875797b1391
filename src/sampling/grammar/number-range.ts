/** Numbers between bounds, as patterns over their decimal digits. */
import { codePoints } from './code-points.ts';
import { grammarUnsupported } from './limits.ts';
import type { Regex } from './regex.ts';
import type { SchemaObject } from './schema-keywords.ts';

export interface NumberBounds {
  readonly min: number | null;
  readonly isMinExclusive: boolean;
  readonly max: number | null;
  readonly isMaxExclusive: boolean;
}

const set = (from: string, to: string): Regex => ({ kind: 'set', set: codePoints([[from.charCodeAt(0), to.charCodeAt(0)]]) });
const sequence = (...parts: Regex[]): Regex => ({ kind: 'sequence', parts });
const choice = (...alternatives: Regex[]): Regex => ({ kind: 'choice', alternatives });
const repeat = (body: Regex, min: number, max: number): Regex => ({ kind: 'repeat', body, min, max });
const digit = set('0', '9');
const text = (value: string): Regex => sequence(...Array.from(value, (c) => set(c, c)));
const minus = set('-', '-');
const point = set('.', '.');
const anyFraction = repeat(sequence(point, repeat(digit, 1, Number.POSITIVE_INFINITY)), 0, 1);
const naturals = choice(set('0', '0'), sequence(set('1', '9'), repeat(digit, 0, Number.POSITIVE_INFINITY)));

/** Patterns that a number must all match. Numbers with bounds are written without exponent, whole part and fraction of bounded length. */
export function boundedNumber(bounds: NumberBounds, isInteger: boolean): Regex[] {
  const { min, max, isMinExclusive, isMaxExclusive } = withinReach(bounds);
  const patterns = [isInteger ? integerShape : isMinExclusive || isMaxExclusive ? shortShape : shape];
  if (min !== null) patterns.push(atLeast(min, isMinExclusive));
  if (max !== null) patterns.push(atMost(max, isMaxExclusive));
  return patterns;
}

/** No number that is written comes near 1e40: such a bound excludes nothing on its side. */
function withinReach(bounds: NumberBounds): NumberBounds {
  const { min, max } = bounds;
  return {
    ...bounds,
    min: min === null || min < -1e40 ? null : min + lostBy(min),
    max: max === null || max > 1e40 ? null : max - lostBy(max),
  };
}

/** A bound beyond 2^53 may have been rounded when the schema was parsed (2^63 - 1 to 2^63): what lies this far inside is surely allowed. */
function lostBy(bound: number): number {
  return Math.abs(bound) > Number.MAX_SAFE_INTEGER ? Math.abs(bound) * Number.EPSILON : 0;
}

function numberShape(whole: number, fraction: number): Regex {
  const natural = choice(set('0', '0'), sequence(set('1', '9'), repeat(digit, 0, whole - 1)));
  const positive = sequence(set('1', '9'), repeat(digit, 0, whole - 1));
  if (fraction === 0) return choice(natural, sequence(minus, positive));
  const digits = repeat(sequence(point, repeat(digit, 1, fraction)), 0, 1);
  const nonZero = sequence(set('0', '0'), point, repeat(set('0', '0'), 0, fraction - 1), set('1', '9'), repeat(digit, 0, fraction - 1));
  return choice(sequence(natural, digits), sequence(minus, choice(sequence(positive, digits), nonZero)));
}

const integerShape = numberShape(19, 0);
const shape = numberShape(15, 12);
/** 15 significant digits at most: two such decimals are two doubles, so that "less than" on paper is "less than" when parsed. */
const shortShape = numberShape(9, 3);

function decimalOf(value: number): { whole: string; fraction: string } {
  const written = Math.abs(value).toString();
  const exponent = /^(\d+)(?:\.(\d+))?e([+-]\d+)$/.exec(written);
  if (exponent === null) {
    const [whole, fraction = ''] = written.split('.');
    return { whole, fraction };
  }
  const shift = Number(exponent[3]);
  if (Math.abs(shift) > 40) throw grammarUnsupported(`the bound ${written}`, 'Bounds lie between 1e-40 and 1e40.');
  if (shift > 0) return { whole: BigInt(Math.abs(value)).toString(), fraction: '' };
  return { whole: '0', fraction: '0'.repeat(-shift - 1) + exponent[1] + (exponent[2] ?? '') };
}

function atLeast(bound: number, isExclusive: boolean): Regex {
  if (bound > 0) return magnitudeAbove(bound, isExclusive);
  if (bound === 0) return isExclusive ? magnitudeAbove(0, true) : sequence(naturals, anyFraction);
  return choice(sequence(naturals, anyFraction), sequence(minus, magnitudeBelow(-bound, isExclusive)));
}

function atMost(bound: number, isExclusive: boolean): Regex {
  if (bound < 0) return sequence(minus, magnitudeAbove(-bound, isExclusive));
  const negative = sequence(minus, naturals, anyFraction);
  return bound === 0 && isExclusive ? negative : choice(negative, magnitudeBelow(bound, isExclusive));
}

/** Decimals without sign that are greater than a bound, or as great. */
function magnitudeAbove(bound: number, isExclusive: boolean): Regex {
  const { whole, fraction } = decimalOf(bound);
  const longer = sequence(set('1', '9'), repeat(digit, whole.length, Number.POSITIVE_INFINITY), anyFraction);
  const greater: Regex[] = [];
  for (let i = 0; i < whole.length; i++) {
    if (whole[i] === '9') continue;
    const next = String(Number(whole[i]) + 1);
    greater.push(sequence(text(whole.slice(0, i)), set(next, '9'), repeat(digit, whole.length - i - 1, whole.length - i - 1), anyFraction));
  }
  return choice(longer, ...greater, sequence(text(whole), fractionAbove(fraction, isExclusive)));
}

function magnitudeBelow(bound: number, isExclusive: boolean): Regex {
  const { whole, fraction } = decimalOf(bound);
  const smaller: Regex[] = [];
  if (whole.length > 1) smaller.push(sequence(set('1', '9'), repeat(digit, 0, whole.length - 2), anyFraction), sequence(set('0', '0'), anyFraction));
  for (let i = 0; i < whole.length; i++) {
    const lowest = i === 0 && whole.length > 1 ? '1' : '0';
    if (whole[i] <= lowest) continue;
    const before = String(Number(whole[i]) - 1);
    smaller.push(sequence(text(whole.slice(0, i)), set(lowest, before), repeat(digit, whole.length - i - 1, whole.length - i - 1), anyFraction));
  }
  return choice(...smaller, sequence(text(whole), fractionBelow(fraction, isExclusive)));
}

const zeros = repeat(set('0', '0'), 0, Number.POSITIVE_INFINITY);
const anyDigits = repeat(digit, 0, Number.POSITIVE_INFINITY);

/** What may follow the whole part of the bound itself: a point and digits, or nothing. */
function fractionAbove(fraction: string, isExclusive: boolean): Regex {
  const greater: Regex[] = [];
  for (let i = 0; i < fraction.length; i++) {
    if (fraction[i] !== '9') greater.push(sequence(text(fraction.slice(0, i)), set(String(Number(fraction[i]) + 1), '9'), anyDigits));
  }
  const rest = isExclusive ? sequence(zeros, set('1', '9'), anyDigits) : anyDigits;
  const withPoint = sequence(point, choice(...greater, sequence(text(fraction), rest)));
  return fraction === '' && !isExclusive ? choice(withPoint, sequence()) : withPoint;
}

function fractionBelow(fraction: string, isExclusive: boolean): Regex {
  const smaller: Regex[] = [];
  for (let i = 0; i < fraction.length; i++) {
    if (fraction[i] !== '0') smaller.push(sequence(text(fraction.slice(0, i)), set('0', String(Number(fraction[i]) - 1)), anyDigits));
    // shorter than the bound: what is missing is zeros
    if (i > 0) smaller.push(text(fraction.slice(0, i)));
  }
  if (!isExclusive) smaller.push(sequence(text(fraction), zeros));
  const withPoint = sequence(point, choice(...smaller));
  return fraction !== '' || !isExclusive ? choice(withPoint, sequence()) : withPoint;
}

/** The bounds that a schema says. */
export function boundsOf(schema: SchemaObject): NumberBounds {
  const { minimum, exclusiveMinimum, maximum, exclusiveMaximum } = schema as Record<string, number | undefined>;
  const isMinExclusive = exclusiveMinimum !== undefined && (minimum === undefined || exclusiveMinimum >= minimum);
  const isMaxExclusive = exclusiveMaximum !== undefined && (maximum === undefined || exclusiveMaximum <= maximum);
  return {
    min: (isMinExclusive ? exclusiveMinimum : minimum) ?? null,
    isMinExclusive,
    max: (isMaxExclusive ? exclusiveMaximum : maximum) ?? null,
    isMaxExclusive,
  };
}

export function isInside(value: number, { min, max, isMinExclusive, isMaxExclusive }: NumberBounds): boolean {
  if (min !== null && (isMinExclusive ? value <= min : value < min)) return false;
  return max === null || (isMaxExclusive ? value < max : value <= max);
}
