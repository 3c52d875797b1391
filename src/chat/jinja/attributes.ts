/** `object.name`, `object[key]` and slices, as the immutable sandbox of Python's Jinja allows them. */
import { integerOf } from './arithmetic.ts';
import { typeError, valueError } from './errors.ts';
import { type Method, methodOf } from './methods.ts';
import { hashable } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { codePoints, isWide, repr } from './text.ts';
import { isFloat, isString, Markup, numberOf, PyDict, PyFunction, PyObject, PyRange, PyTuple, typeName, Undefined, type Value } from './values.ts';

/** Methods that would change a value; the sandbox shows them as undefined. */
const forbidden: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  ['list', new Set(['append', 'clear', 'pop', 'reverse', 'insert', 'sort', 'extend', 'remove'])],
  ['dict', new Set(['clear', 'pop', 'popitem', 'setdefault', 'update'])],
]);

/** What every object of Python has beside methods: out of reach. */
const internals = new Set(
  (
    'class doc init new repr str hash eq ne lt le gt ge dir format getattribute setattr delattr reduce reduce_ex sizeof subclasshook ' +
    'init_subclass dict module call len iter contains getitem add mul mod globals code self func name qualname mro bases base subclasses'
  )
    .split(' ')
    .map((name) => `__${name}__`),
);

/** `object.name` */
export function getAttribute(rt: Runtime, object: Value, name: string): Value {
  const own = attributeOf(object, name);
  if (own !== undefined) return own;
  if (object instanceof PyDict) {
    const item = object.get(name);
    if (item !== undefined) return item;
  }
  return missing(rt, object, name);
}

/** A method or attribute; not an item. */
function attributeOf(object: Value, name: string): Value | undefined {
  if (object instanceof Undefined) return object.fail();
  const method = methodOf(object, name);
  if (method !== undefined) return bound(object, name, method);
  if (object instanceof PyObject) {
    const own = object.attribute(name);
    if (own !== undefined) return own;
  }
  if (internals.has(name) || forbidden.get(typeName(object))?.has(name) === true)
    return new Undefined(`access to attribute '${name}' of '${typeName(object)}' object is unsafe.`, 'SecurityError');
  return undefined;
}

function bound(object: Value, name: string, method: Method): Value {
  return new PyFunction(`${typeName(object)}.${name}`, (rt, args, kwargs) => method(rt, object, args, kwargs), 'builtin_function_or_method');
}

function missing(rt: Runtime, object: Value, key: Value): Value {
  return new Undefined(() => {
    const described = object === null ? 'None' : `${qualified(object)} object`;
    if (typeof key !== 'string') return `${described} has no element ${repr(rt, key)}`;
    return `${repr(rt, described)} has no attribute ${repr(rt, key)}`;
  });
}

function qualified(value: Value): string {
  const name = typeName(value);
  if (name === 'Namespace' || name === 'Cycler' || name === 'Joiner') return `jinja2.utils.${name}`;
  if (name === 'LoopContext' || name === 'Macro') return `jinja2.runtime.${name}`;
  return name === 'Markup' ? 'markupsafe.Markup' : name;
}

/** `object[key]` */
export function getItem(rt: Runtime, object: Value, key: Value): Value {
  if (object instanceof Undefined) object.fail();
  const item = itemOf(rt, object, key);
  if (item !== undefined) return item;
  if (isString(key)) {
    const own = attributeOf(object, typeof key === 'string' ? key : key.text);
    if (own !== undefined) return own;
  }
  return missing(rt, object, key);
}

/** @returns undefined where Python raises TypeError or LookupError */
function itemOf(rt: Runtime, object: Value, key: Value): Value | undefined {
  if (object instanceof PyDict) return isHashable(key) ? object.get(hashable(rt, key)) : undefined;
  const index = numberOf(key);
  if (typeof index !== 'number' || isFloat(key)) return undefined;
  if (Array.isArray(object)) return at(object, index);
  if (object instanceof PyTuple) return at(object.items, index);
  if (typeof object === 'string') return characterAt(rt, object, index);
  if (object instanceof Markup) {
    const character = characterAt(rt, object.text, index);
    return character === undefined ? undefined : new Markup(character);
  }
  if (!(object instanceof PyRange)) return undefined;
  const position = index < 0 ? index + object.length : index;
  return position < 0 || position >= object.length ? undefined : object.start + position * object.step;
}

function isHashable(key: Value): boolean {
  return !(Array.isArray(key) || key instanceof PyDict || (key instanceof PyTuple && !key.items.every(isHashable)));
}

function at(items: readonly Value[], index: number): Value | undefined {
  return items[index < 0 ? index + items.length : index];
}

function characterAt(rt: Runtime, text: string, index: number): string | undefined {
  rt.scan(text.length);
  if (!isWide(text)) return text[index < 0 ? index + text.length : index];
  const points = codePoints(rt, text);
  return points[index < 0 ? index + points.length : index];
}

/** `object[start:stop:step]` */
export function getSlice(rt: Runtime, object: Value, bounds: readonly [Value, Value, Value]): Value {
  if (object instanceof Undefined) object.fail();
  if (typeof object === 'string') return sliceText(rt, object, bounds);
  if (object instanceof Markup) return new Markup(sliceText(rt, object.text, bounds));
  if (Array.isArray(object)) return sliceItems(rt, object, bounds);
  if (object instanceof PyTuple) return new PyTuple(sliceItems(rt, object.items, bounds));
  if (object instanceof PyDict) throw typeError("unhashable type: 'slice'");
  if (!(object instanceof PyRange)) throw typeError(`'${typeName(object)}' object is not subscriptable`);
  const [start, stop, step] = sliceIndices(rt, object.length, bounds);
  return new PyRange(object.start + start * object.step, object.start + stop * object.step, object.step * step);
}

function sliceText(rt: Runtime, text: string, bounds: readonly [Value, Value, Value]): string {
  rt.scan(text.length);
  if (!isWide(text) && (bounds[2] === null || bounds[2] === 1)) {
    const [start, stop] = sliceIndices(rt, text.length, bounds);
    return text.slice(start, Math.max(start, stop));
  }
  return sliceItems(rt, codePoints(rt, text), bounds).join('');
}

function sliceItems<T>(rt: Runtime, items: readonly T[], bounds: readonly [Value, Value, Value]): T[] {
  const [start, stop, step] = sliceIndices(rt, items.length, bounds);
  if (step === 1) {
    rt.roomForItems(Math.max(0, stop - start));
    return items.slice(start, Math.max(start, stop));
  }
  const picked: T[] = [];
  for (let i = start; step > 0 ? i < stop : i > stop; i += step) picked.push(items[i]);
  rt.roomForItems(picked.length);
  return picked;
}

/** `slice.indices(length)` */
function sliceIndices(rt: Runtime, length: number, [from, to, by]: readonly [Value, Value, Value]): [number, number, number] {
  const step = by === null ? 1 : sliceIndex(rt, by);
  if (step === 0) throw valueError('slice step cannot be zero');
  const [least, most] = step > 0 ? [0, length] : [-1, length - 1];
  const clamp = (value: Value, fallback: number): number => {
    if (value === null) return fallback;
    const index = sliceIndex(rt, value);
    return Math.min(most, Math.max(least, index < 0 ? index + length : index));
  };
  return [clamp(from, step > 0 ? least : most), clamp(to, step > 0 ? most : least), step];
}

function sliceIndex(rt: Runtime, value: Value): number {
  if (value instanceof Undefined || numberOf(value) === undefined || isFloat(value))
    throw typeError('slice indices must be integers or None or have an __index__ method');
  const number = numberOf(value);
  return typeof number === 'bigint' ? (number > 0n ? Number.MAX_SAFE_INTEGER : Number.MIN_SAFE_INTEGER) : integerOf(rt, value);
}
