/** Python's operators: truth, equality, order, membership, iteration, and the names of types in their errors. */
import { JinjaError, TemplateTooLarge, typeError } from './errors.ts';
import type { Runtime } from './runtime.ts';
import { codePoints, textLength } from './text.ts';
import {
  isString,
  Markup,
  Namespace,
  numberOf,
  PyDict,
  PyFloat,
  PyIterator,
  PyRange,
  PyTuple,
  PyView,
  typeName,
  Undefined,
  type Value,
} from './values.ts';

/** `bool(value)` */
export function truthy(value: Value): boolean {
  if (typeof value === 'boolean') return value;
  if (value === null) return false;
  if (typeof value === 'string') return value.length > 0;
  if (typeof value === 'number') return value !== 0;
  if (Array.isArray(value)) return value.length > 0;
  if (typeof value === 'bigint') return true;
  if (value instanceof Undefined) return false;
  if (value instanceof PyDict) return value.size > 0;
  if (value instanceof PyTuple) return value.items.length > 0;
  if (value instanceof PyFloat) return value.value !== 0;
  if (value instanceof Markup) return value.text.length > 0;
  if (value instanceof PyRange) return value.length > 0;
  return value instanceof PyView ? value.dict.size > 0 : true;
}

/** `len(value)`, undefined where Python knows none. */
export function lengthOf(rt: Runtime, value: Value): number | undefined {
  if (typeof value === 'string') return textLength(rt, value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof PyDict) return value.size;
  if (value instanceof PyTuple) return value.items.length;
  if (value instanceof Markup) return textLength(rt, value.text);
  if (value instanceof PyRange) return value.length;
  if (value instanceof PyView) return value.dict.size;
  return value instanceof Undefined ? 0 : undefined;
}

/** What `iter(value)` runs over; null when it cannot be iterated. */
function iterable(rt: Runtime, value: Value): Iterable<Value> | null {
  if (Array.isArray(value)) return value;
  if (typeof value === 'string') return codePoints(rt, value);
  if (value instanceof PyDict) return value.keys();
  if (value instanceof PyTuple) return value.items;
  if (value instanceof PyRange || value instanceof PyView || value instanceof PyIterator) return value;
  if (value instanceof Markup) return codePoints(rt, value.text);
  return value instanceof Undefined ? [] : null;
}

export function isIterable(rt: Runtime, value: Value): boolean {
  return iterable(rt, value) !== null;
}

/** @throws TypeError */
export function iterate(rt: Runtime, value: Value): Iterable<Value> {
  const items = iterable(rt, value);
  if (items === null) throw typeError(`'${typeName(value)}' object is not iterable`);
  return items;
}

/** The items in an array that must not be changed: it may be the value itself. */
export function itemsOf(rt: Runtime, value: Value): Value[] {
  const source = iterate(rt, value);
  if (Array.isArray(source)) {
    rt.roomForItems(source.length);
    return source;
  }
  const items: Value[] = [];
  for (const item of source) {
    items.push(item);
    rt.grow(items.length);
  }
  return items;
}

const maxComparedDepth = 200;

/** `left == right` */
export function equal(rt: Runtime, left: Value, right: Value, depth = 0): boolean {
  if (typeof left === 'string') return equalTexts(rt, left, right);
  if (left === right) return true;
  if (left === null || right === null || typeof right === 'string') return left instanceof Markup && left.text === right;
  rt.step();
  const number = numberOf(left);
  if (number !== undefined) {
    const other = numberOf(right);
    // biome-ignore lint/suspicious/noDoubleEquals: 2n == 2, whichever way an integer is stored
    return other !== undefined && number == other;
  }
  if (depth > maxComparedDepth) throw new TemplateTooLarge(`it compares data nested deeper than ${maxComparedDepth} levels`);
  if (Array.isArray(left)) return Array.isArray(right) && equalItems(rt, left, right, depth);
  if (left instanceof PyTuple) return right instanceof PyTuple && equalItems(rt, left.items, right.items, depth);
  if (left instanceof PyDict) return right instanceof PyDict && equalDicts(rt, left, right, depth);
  if (left instanceof Undefined) return right instanceof Undefined;
  if (left instanceof Markup) return right instanceof Markup && left.text === right.text;
  if (left instanceof PyRange) return right instanceof PyRange && equalItems(rt, itemsOf(rt, left), itemsOf(rt, right), depth);
  if (left instanceof PyView && left.kind !== 'values' && right instanceof PyView && right.kind !== 'values') {
    const held = itemsOf(rt, right);
    return left.dict.size === right.dict.size && itemsOf(rt, left).every((item) => holds(rt, held, item));
  }
  return false;
}

function equalTexts(rt: Runtime, left: string, right: Value): boolean {
  const text = right instanceof Markup ? right.text : right;
  if (typeof text !== 'string' || text.length !== left.length) return false;
  rt.scan(left.length);
  return left === text;
}

function equalItems(rt: Runtime, left: Value[], right: Value[], depth: number): boolean {
  return left.length === right.length && left.every((item, i) => equal(rt, item, right[i], depth + 1));
}

function equalDicts(rt: Runtime, left: PyDict, right: PyDict, depth: number): boolean {
  if (left.size !== right.size) return false;
  for (const [key, value] of left.entries()) {
    const other = right.get(key);
    if (other === undefined || !equal(rt, value, other, depth + 1)) return false;
  }
  return true;
}

function holds(rt: Runtime, items: Iterable<Value>, wanted: Value): boolean {
  for (const item of items) {
    rt.step();
    if (equal(rt, item, wanted)) return true;
  }
  return false;
}

/** A key to be looked up: counts the work of hashing it. */
export function hashable(rt: Runtime, key: Value): Value {
  if (typeof key === 'string' && key.length > 64) rt.scan(key.length);
  return key;
}

/** `item in container` */
export function contains(rt: Runtime, container: Value, item: Value): boolean {
  if (isString(container)) {
    if (!isString(item)) throw typeError(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    const text = typeof container === 'string' ? container : container.text;
    rt.scan(text.length);
    return text.includes(typeof item === 'string' ? item : item.text);
  }
  if (container instanceof PyDict) return container.has(hashable(rt, item));
  if (container instanceof PyView && container.kind === 'keys') return container.dict.has(hashable(rt, item));
  const items = iterable(rt, container);
  if (items === null || container instanceof Namespace) throw typeError(`argument of type '${typeName(container)}' is not iterable`);
  return holds(rt, items, item);
}

export type Ordering = '<' | '<=' | '>' | '>=';

/** `left < right` and kin */
export function ordered(rt: Runtime, operator: Ordering, left: Value, right: Value, depth = 0): boolean {
  rt.step();
  if (typeof left === 'string' && typeof right === 'string') return orderedTexts(rt, operator, left, right);
  const number = numberOf(left);
  const other = numberOf(right);
  if (number !== undefined && other !== undefined) return orderedNumbers(operator, number, other);
  if (left instanceof Undefined) left.fail();
  if (right instanceof Undefined) right.fail();
  if (isString(left) && isString(right)) return orderedTexts(rt, operator, textOf(left), textOf(right));
  if (depth > maxComparedDepth) throw new TemplateTooLarge(`it compares data nested deeper than ${maxComparedDepth} levels`);
  if (Array.isArray(left) && Array.isArray(right)) return orderedItems(rt, operator, left, right, depth);
  if (left instanceof PyTuple && right instanceof PyTuple) return orderedItems(rt, operator, left.items, right.items, depth);
  throw typeError(`'${operator}' not supported between instances of '${typeName(left)}' and '${typeName(right)}'`);
}

function textOf(value: string | Markup): string {
  return typeof value === 'string' ? value : value.text;
}

function orderedTexts(rt: Runtime, operator: Ordering, left: string, right: string): boolean {
  rt.scan(Math.min(left.length, right.length));
  return bySign(operator, compareTexts(left, right));
}

/** By code points, as Python does; JavaScript's order of UTF-16 units differs above U+FFFF. */
function compareTexts(left: string, right: string): number {
  if (left === right) return 0;
  let at = 0;
  while (at < left.length && at < right.length && left.charCodeAt(at) === right.charCodeAt(at)) at++;
  const [a, b] = [left.charCodeAt(at), right.charCodeAt(at)];
  if (Number.isNaN(a)) return -1;
  if (Number.isNaN(b)) return 1;
  const isHigh = (code: number): boolean => code >= 0xd800 && code < 0xe000;
  return isHigh(a) === isHigh(b) ? a - b : isHigh(a) ? 1 : -1;
}

function orderedNumbers(operator: Ordering, left: number | bigint, right: number | bigint): boolean {
  switch (operator) {
    case '<':
      return left < right;
    case '<=':
      return left <= right;
    case '>':
      return left > right;
    case '>=':
      return left >= right;
  }
}

function bySign(operator: Ordering, sign: number): boolean {
  return orderedNumbers(operator, sign, 0);
}

function orderedItems(rt: Runtime, operator: Ordering, left: Value[], right: Value[], depth: number): boolean {
  for (let i = 0; i < left.length && i < right.length; i++)
    if (!equal(rt, left[i], right[i])) return ordered(rt, operator, left[i], right[i], depth + 1);
  return bySign(operator, left.length - right.length);
}

/** `a, b = value` */
export function unpack(rt: Runtime, value: Value, count: number): Value[] {
  if (!isIterable(rt, value)) throw typeError(`cannot unpack non-iterable ${typeName(value)} object`);
  const items = itemsOf(rt, value);
  if (items.length > count) throw new JinjaError('ValueError', `too many values to unpack (expected ${count})`);
  if (items.length < count) throw new JinjaError('ValueError', `not enough values to unpack (expected ${count}, got ${items.length})`);
  return items;
}
