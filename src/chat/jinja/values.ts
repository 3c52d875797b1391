/**
 * The values that a template computes with: Python's.
 *
 * `None`, `bool`, `str` and `list` are null, boolean, string and array. An `int` is an integral number, or a bigint beyond 2^53; a `float` is
 * any other number, or a `PyFloat` where its value is integral, since 2.0 prints otherwise than 2. The rest are classes. Nothing
 * reaches a template that is not one of these, and no property of a JavaScript object is ever looked up by a name from a template.
 */
import { JinjaError, TemplateTooLarge, typeError } from './errors.ts';
import type { Runtime } from './runtime.ts';

export type Value = null | boolean | number | bigint | string | Value[] | PyObject;
export type Kwargs = ReadonlyMap<string, Value>;
export const noKwargs: Kwargs = new Map();

export abstract class PyObject {
  /** Python's name of the type. */
  abstract readonly typeName: string;

  /** An attribute other than the items of a mapping. */
  attribute(_name: string): Value | undefined {
    return undefined;
  }
}

export abstract class PyCallable extends PyObject {
  abstract call(rt: Runtime, args: Value[], kwargs: Kwargs): Value;
}

/** A float with an integral value, or -0. */
export class PyFloat extends PyObject {
  readonly typeName = 'float';
  readonly value: number;
  constructor(value: number) {
    super();
    this.value = value;
  }
}

export class PyTuple extends PyObject {
  readonly typeName = 'tuple';
  readonly items: Value[];
  constructor(items: Value[]) {
    super();
    this.items = items;
  }
}

/** A string that `safe` or `escape` made: what is added to it gets escaped. */
export class Markup extends PyObject {
  readonly typeName = 'Markup';
  readonly text: string;
  constructor(text: string) {
    super();
    this.text = text;
  }
}

type HashKey = string | number | bigint | null;

/** An insertion-ordered dict. Its keys are equal as Python's are: 1, 1.0 and True are one key. */
export class PyDict extends PyObject {
  readonly typeName = 'dict';
  readonly #values = new Map<HashKey, Value>();
  /** Keys that differ from what they are stored under. */
  #keys: Map<HashKey, Value> | null = null;

  get size(): number {
    return this.#values.size;
  }

  /** @throws TypeError for a key that Python cannot hash */
  get(key: Value): Value | undefined {
    return this.#values.get(typeof key === 'string' ? stringKey(key) : hashKey(key));
  }

  has(key: Value): boolean {
    return this.#values.has(hashKey(key));
  }

  set(key: Value, value: Value): void {
    const hash = hashKey(key);
    if (hash !== key && !this.#values.has(hash)) {
      this.#keys ??= new Map();
      this.#keys.set(hash, key);
    }
    this.#values.set(hash, value);
  }

  *keys(): Generator<Value> {
    for (const hash of this.#values.keys()) yield this.#keys?.get(hash) ?? hash;
  }

  values(): IterableIterator<Value> {
    return this.#values.values();
  }

  *entries(): Generator<[Value, Value]> {
    for (const [hash, value] of this.#values) yield [this.#keys?.get(hash) ?? hash, value];
  }
}

function stringKey(key: string): string {
  return key.charCodeAt(0) === 0 ? `\0s${key}` : key;
}

/** Strings that start with NUL are set apart, so that no string equals what a tuple is stored under. */
function hashKey(key: Value): HashKey {
  if (typeof key === 'string') return stringKey(key);
  if (key === null || typeof key === 'number' || typeof key === 'bigint') return key;
  if (typeof key === 'boolean') return Number(key);
  if (key instanceof PyFloat) return key.value + 0;
  if (key instanceof Markup) return stringKey(key.text);
  if (key instanceof PyTuple) return tupleKey(key);
  if (Array.isArray(key) || key instanceof PyDict) throw typeError(`unhashable type: '${typeName(key)}'`);
  return key instanceof Undefined ? '\0u' : `\0o${identity(key)}`;
}

/** A tuple as a key: its items one after the other. */
function tupleKey(tuple: PyTuple): string {
  let text = '\0t';
  for (const item of tuple.items) {
    text += `${hashText(hashKey(item))},`;
    if (text.length > maxTupleKey) throw new TemplateTooLarge('it uses a long tuple as a key');
  }
  return text;
}

/** Longest tuple that can be a key, written out. */
const maxTupleKey = 4096;

function hashText(hash: HashKey): string {
  return typeof hash === 'string' ? JSON.stringify(hash) : String(hash);
}

const identities = new WeakMap<PyObject, number>();
let lastIdentity = 0;

/** A number that no other object has. */
export function identity(object: PyObject): number {
  const known = identities.get(object);
  if (known !== undefined) return known;
  identities.set(object, ++lastIdentity);
  return lastIdentity;
}

/** A lazy `range`. */
export class PyRange extends PyObject {
  readonly typeName = 'range';
  readonly start: number;
  readonly stop: number;
  readonly step: number;
  readonly length: number;
  constructor(start: number, stop: number, step: number) {
    super();
    this.start = start;
    this.stop = stop;
    this.step = step;
    this.length = Math.max(0, Math.ceil((stop - start) / step));
  }

  *[Symbol.iterator](): Generator<Value> {
    for (let i = 0; i < this.length; i++) yield this.start + i * this.step;
  }
}

/** `items()`, `keys()` or `values()` of a dict. */
export class PyView extends PyObject {
  readonly typeName: string;
  readonly kind: 'items' | 'keys' | 'values';
  readonly dict: PyDict;
  constructor(kind: 'items' | 'keys' | 'values', dict: PyDict) {
    super();
    this.kind = kind;
    this.typeName = `dict_${kind}`;
    this.dict = dict;
  }

  *[Symbol.iterator](): Generator<Value> {
    for (const [key, value] of this.dict.entries()) yield this.kind === 'items' ? new PyTuple([key, value]) : this.kind === 'keys' ? key : value;
  }
}

/** What can be iterated once: a generator or an iterator. */
export class PyIterator extends PyObject {
  readonly typeName: string;
  readonly #iterator: Iterator<Value>;
  constructor(items: Iterable<Value>, typeName = 'generator') {
    super();
    this.typeName = typeName;
    this.#iterator = items[Symbol.iterator]();
  }

  next(): IteratorResult<Value> {
    return this.#iterator.next();
  }

  /** Goes on where the last iteration stopped. */
  [Symbol.iterator](): Iterator<Value> {
    return { next: () => this.#iterator.next() };
  }
}

/** Prints as nothing, is false and empty; nearly everything else that is done with it fails. */
export class Undefined extends PyObject {
  readonly typeName = 'Undefined';
  readonly #message: () => string;
  readonly #kind: string;

  /** @param kind of the error */
  constructor(message: string | (() => string), kind = 'UndefinedError') {
    super();
    this.#message = typeof message === 'string' ? () => message : message;
    this.#kind = kind;
  }

  fail(): never {
    throw new JinjaError(this.#kind, this.#message());
  }
}

export class Namespace extends PyObject {
  readonly typeName = 'Namespace';
  readonly attributes = new Map<string, Value>();

  override attribute(name: string): Value | undefined {
    return this.attributes.get(name);
  }
}

type Call = (rt: Runtime, args: Value[], kwargs: Kwargs) => Value;

/** A function of ours, or a method bound to its object. */
export class PyFunction extends PyCallable {
  readonly typeName: string;
  readonly name: string;
  readonly #call: Call;
  constructor(name: string, call: Call, typeName = 'function') {
    super();
    this.name = name;
    this.#call = call;
    this.typeName = typeName;
  }

  override call(rt: Runtime, args: Value[], kwargs: Kwargs): Value {
    return this.#call(rt, args, kwargs);
  }
}

export function typeName(value: Value): string {
  if (value === null) return 'NoneType';
  if (Array.isArray(value)) return 'list';
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'string':
      return 'str';
    case 'bigint':
      return 'int';
    case 'number':
      return Number.isInteger(value) ? 'int' : 'float';
    default:
      return value.typeName;
  }
}

export function isString(value: Value): value is string | Markup {
  return typeof value === 'string' || value instanceof Markup;
}

/** @returns an integer in its shortest form */
export function makeInt(value: number | bigint): Value {
  if (typeof value === 'bigint') return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  return Number.isSafeInteger(value) ? value + 0 : BigInt(value);
}

export function makeFloat(value: number): Value {
  return Number.isInteger(value) ? new PyFloat(value) : value;
}

/** The number that a bool, int or float stands for; undefined for all else. */
export function numberOf(value: Value): number | bigint | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return value;
  if (typeof value === 'boolean') return Number(value);
  return value instanceof PyFloat ? value.value : undefined;
}

export function isFloat(value: Value): boolean {
  return value instanceof PyFloat || (typeof value === 'number' && !Number.isInteger(value));
}

/**
 * Plain data as values: objects become dicts. JSON does not tell 1.0 from 1 once it is read, so integral numbers are ints, up to where
 * JavaScript itself writes an exponent.
 */
export function valueFromData(data: unknown): Value {
  switch (typeof data) {
    case 'string':
    case 'boolean':
      return data;
    case 'number':
      return Number.isInteger(data) ? (Math.abs(data) < 1e21 ? makeInt(data) : new PyFloat(data)) : data;
    case 'bigint':
      return makeInt(data);
    case 'object':
      break;
    default:
      return null;
  }
  if (data === null || data instanceof PyObject) return data;
  if (Array.isArray(data)) return data.map((item: unknown) => valueFromData(item));
  const dict = new PyDict();
  for (const [key, item] of Object.entries(data)) if (item !== undefined) dict.set(key, valueFromData(item));
  return dict;
}
