/** Python's arithmetic on numbers, strings and lists. */
import { JinjaError, TemplateTooLarge, typeError } from './errors.ts';
import { formatPercent } from './percent-format.ts';
import type { Runtime } from './runtime.ts';
import { escapeHtml, repr } from './text.ts';
import { isFloat, isString, Markup, makeFloat, makeInt, numberOf, PyTuple, typeName, Undefined, type Value } from './values.ts';

export type Arithmetic = '+' | '-' | '*' | '/' | '//' | '%' | '**';

/** Longest integer in bits; Python would not print longer ones either. */
const maxIntBits = 14_300;

export function arithmetic(rt: Runtime, operator: Arithmetic, left: Value, right: Value): Value {
  if (operator === '+') {
    if (typeof left === 'string' && typeof right === 'string') return concatenated(rt, left, right);
    if (typeof left === 'number' && typeof right === 'number' && Number.isSafeInteger(left) && Number.isSafeInteger(right))
      return makeInt(left + right);
  }
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a !== undefined && b !== undefined) {
    return isFloat(left) || isFloat(right) || operator === '/' ? floats(operator, Number(a), Number(b)) : integers(operator, a, b);
  }
  if (left instanceof Undefined) left.fail();
  if (operator === '%' && isString(left)) return formatted(rt, left, right);
  if (right instanceof Undefined) right.fail();
  const result = operator === '+' ? added(rt, left, right) : operator === '*' ? repeated(rt, left, right) : undefined;
  if (result !== undefined) return result;
  const shown = operator === '**' ? '** or pow()' : operator;
  throw typeError(`unsupported operand type(s) for ${shown}: '${typeName(left)}' and '${typeName(right)}'`);
}

export function concatenated(rt: Runtime, left: string, right: string): string {
  // Joining is free until the result is read, so only its length counts.
  const length = left.length + right.length;
  if (length > 1 << 22) rt.room(length);
  rt.step();
  return left + right;
}

function formatted(rt: Runtime, left: string | Markup, right: Value): Value {
  return typeof left === 'string' ? formatPercent(rt, left, right) : new Markup(formatPercent(rt, left.text, right));
}

function added(rt: Runtime, left: Value, right: Value): Value | undefined {
  if (Array.isArray(left) && Array.isArray(right)) {
    rt.roomForItems(left.length + right.length);
    return left.concat(right);
  }
  if (left instanceof PyTuple && right instanceof PyTuple) {
    rt.roomForItems(left.items.length + right.items.length);
    return new PyTuple(left.items.concat(right.items));
  }
  if (isString(left) && isString(right)) return new Markup(concatenated(rt, safe(rt, left), safe(rt, right)));
  if (isString(left)) throw typeError(`can only concatenate str (not "${typeName(right)}") to str`);
  if (Array.isArray(left)) throw typeError(`can only concatenate list (not "${typeName(right)}") to list`);
  if (left instanceof PyTuple) throw typeError(`can only concatenate tuple (not "${typeName(right)}") to tuple`);
  return undefined;
}

function safe(rt: Runtime, value: string | Markup): string {
  return typeof value === 'string' ? escapeHtml(rt, value) : value.text;
}

function repeated(rt: Runtime, left: Value, right: Value): Value | undefined {
  const times = numberOf(right);
  if (times === undefined || isFloat(right)) {
    if (numberOf(left) !== undefined && !isFloat(left) && isSequence(right)) return repeated(rt, right, left);
    if (isSequence(left)) throw typeError(`can't multiply sequence by non-int of type '${typeName(right)}'`);
    return isSequence(right) ? repeated(rt, right, left) : undefined;
  }
  const count = Math.max(0, Number(times));
  if (typeof left === 'string') return repeatText(rt, left, count);
  if (left instanceof Markup) return new Markup(repeatText(rt, left.text, count));
  if (Array.isArray(left)) return repeatItems(rt, left, count);
  return left instanceof PyTuple ? new PyTuple(repeatItems(rt, left.items, count)) : undefined;
}

function isSequence(value: Value): boolean {
  return isString(value) || Array.isArray(value) || value instanceof PyTuple;
}

export function repeatText(rt: Runtime, text: string, count: number): string {
  if (text === '' || count <= 0) return '';
  rt.room(text.length * count);
  return text.repeat(count);
}

function repeatItems(rt: Runtime, items: Value[], count: number): Value[] {
  if (items.length === 0 || count === 0) return [];
  rt.roomForItems(items.length * count);
  const repeatedItems: Value[] = [];
  for (let i = 0; i < count; i++) for (const item of items) repeatedItems.push(item);
  return repeatedItems;
}

function zeroDivision(message: string): JinjaError {
  return new JinjaError('ZeroDivisionError', message);
}

function floats(operator: Arithmetic, a: number, b: number): Value {
  switch (operator) {
    case '+':
      return makeFloat(a + b);
    case '-':
      return makeFloat(a - b);
    case '*':
      return makeFloat(a * b);
    case '/':
      if (b === 0) throw zeroDivision('division by zero');
      return makeFloat(a / b);
    case '//':
      if (b === 0) throw zeroDivision('float floor division by zero');
      return makeFloat(floorDivision(a, b));
    case '%':
      if (b === 0) throw zeroDivision('float modulo');
      return makeFloat(floatModulo(a, b));
    case '**':
      if (a === 0 && b < 0) throw zeroDivision('0.0 cannot be raised to a negative power');
      if (a < 0 && !Number.isInteger(b)) throw typeError('complex numbers are not supported');
      return makeFloat(a ** b);
  }
}

/** Exact where rounding the quotient would not be. */
function floorDivision(a: number, b: number): number {
  if (!Number.isFinite(a)) return Number.NaN;
  const quotient = (a - floatModulo(a, b)) / b;
  const floor = Math.floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor === 0 && a < 0 !== b < 0 ? -0 : floor;
}

function floatModulo(a: number, b: number): number {
  const rest = a % b;
  if (rest === 0) return b < 0 ? -0 : 0;
  return rest < 0 !== b < 0 ? rest + b : rest;
}

function integers(operator: Arithmetic, a: number | bigint, b: number | bigint): Value {
  if (typeof a === 'number' && typeof b === 'number') {
    const small = smallIntegers(operator, a, b);
    if (small !== undefined) return small;
  }
  return bigIntegers(operator, BigInt(a), BigInt(b));
}

/** @returns undefined when the result might not be exact */
function smallIntegers(operator: Arithmetic, a: number, b: number): Value | undefined {
  const exact = (result: number): Value | undefined => (Number.isSafeInteger(result) ? result + 0 : undefined);
  switch (operator) {
    case '+':
      return exact(a + b);
    case '-':
      return exact(a - b);
    case '*':
      return exact(a * b);
    case '//':
    case '%': {
      if (b === 0) throw zeroDivision(operator === '%' ? 'integer modulo by zero' : 'integer division or modulo by zero');
      const rest = floatModulo(a, b);
      return exact(operator === '%' ? rest : (a - rest) / b);
    }
    default:
      return undefined;
  }
}

function bigIntegers(operator: Arithmetic, a: bigint, b: bigint): Value {
  switch (operator) {
    case '+':
      return makeInt(checked(a + b));
    case '-':
      return makeInt(checked(a - b));
    case '*':
      return makeInt(checked(a * b));
    case '**':
      return power(a, b);
    default: {
      if (b === 0n) throw zeroDivision(operator === '%' ? 'integer modulo by zero' : 'integer division or modulo by zero');
      const rest = a % b;
      const modulo = rest !== 0n && rest < 0n !== b < 0n ? rest + b : rest;
      return makeInt(operator === '%' ? modulo : (a - modulo) / b);
    }
  }
}

const largestInt = 1n << BigInt(maxIntBits);

function checked(value: bigint): bigint {
  if (value > largestInt || value < -largestInt) throw new TemplateTooLarge(`it computes an integer of more than ${maxIntBits} bits`);
  return value;
}

function power(base: bigint, exponent: bigint): Value {
  if (exponent < 0n) {
    if (base === 0n) throw zeroDivision('0.0 cannot be raised to a negative power');
    return makeFloat(Number(base) ** Number(exponent));
  }
  if (exponent === 0n || base === 1n) return 1;
  if (base === 0n) return 0;
  if (base === -1n) return exponent % 2n === 0n ? 1 : -1;
  const bits = base.toString(2).length - (base < 0n ? 2 : 1);
  if (exponent * BigInt(bits) > BigInt(maxIntBits)) checked(largestInt + 1n);
  return makeInt(checked(base ** exponent));
}

/** `-value` and `+value` */
export function signed(rt: Runtime, operator: '-' | '+', value: Value): Value {
  if (value instanceof Undefined) value.fail();
  const number = numberOf(value);
  if (number === undefined) throw typeError(`bad operand type for unary ${operator}: '${typeName(value)}'`);
  rt.step();
  if (isFloat(value)) return makeFloat(operator === '-' ? -Number(number) : Number(number));
  return makeInt(operator === '-' ? -number : number);
}

/** An int for an index, a width or a count. @throws TypeError */
export function integerOf(rt: Runtime, value: Value): number {
  const number = numberOf(value);
  if (number === undefined || isFloat(value)) throw typeError(`'${typeName(value)}' object cannot be interpreted as an integer`);
  if (typeof number === 'bigint') throw new JinjaError('OverflowError', `Python int too large to convert: ${repr(rt, value).slice(0, 30)}`);
  return number;
}
