/** The functions that every template sees: Jinja's, and those that transformers adds. */
import { bind, positional } from './arguments.ts';
import { integerOf } from './arithmetic.ts';
import { JinjaError, TemplateRaised, typeError, valueError } from './errors.ts';
import { copied } from './methods.ts';
import { hashable, itemsOf } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { str } from './text.ts';
import { type Kwargs, Namespace, PyCallable, PyDict, PyFunction, PyObject, PyRange, type Value } from './values.ts';

/** As in Python's sandbox. */
const maxRange = 100_000;

function range(rt: Runtime, args: Value[], kwargs: Kwargs): Value {
  positional('range', args, kwargs, 1, 3);
  const numbers = args.map((value) => integerOf(rt, value));
  const [start, stop, step = 1] = numbers.length === 1 ? [0, numbers[0]] : numbers;
  if (step === 0) throw valueError('range() arg 3 must not be zero');
  const result = new PyRange(start, stop, step);
  if (result.length > maxRange)
    throw new JinjaError('OverflowError', `Range too big. The sandbox blocks ranges larger than MAX_RANGE (${maxRange}).`);
  return result;
}

function dict(rt: Runtime, args: Value[], kwargs: Kwargs): Value {
  if (args.length > 1) throw typeError(`dict expected at most 1 argument, got ${args.length}`);
  const [source] = args;
  const made = source instanceof PyDict ? copied(rt, source) : new PyDict();
  if (source !== undefined && !(source instanceof PyDict)) {
    itemsOf(rt, source).forEach((pair, i) => {
      const items = itemsOf(rt, pair);
      if (items.length !== 2) throw valueError(`dictionary update sequence element #${i} has length ${items.length}; 2 is required`);
      made.set(hashable(rt, items[0]), items[1]);
    });
  }
  for (const [key, value] of kwargs) made.set(key, value);
  return made;
}

function namespace(rt: Runtime, args: Value[], kwargs: Kwargs): Value {
  const made = new Namespace();
  const attributes = dict(rt, args, kwargs);
  if (attributes instanceof PyDict) for (const [key, value] of attributes.entries()) if (typeof key === 'string') made.attributes.set(key, value);
  return made;
}

function raiseException(rt: Runtime, args: Value[], kwargs: Kwargs): never {
  const [message = null] = bind('raise_exception', ['message!'], args, kwargs);
  throw new TemplateRaised(str(rt, message));
}

class Cycler extends PyObject {
  readonly typeName = 'Cycler';
  readonly #items: Value[];
  #at = 0;

  constructor(items: Value[]) {
    super();
    this.#items = items;
  }

  override attribute(name: string): Value | undefined {
    if (name === 'current') return this.#items[this.#at];
    if (name === 'next') return new PyFunction('next', () => this.#next(), 'method');
    if (name !== 'reset') return undefined;
    return new PyFunction(
      'reset',
      () => {
        this.#at = 0;
        return null;
      },
      'method',
    );
  }

  #next(): Value {
    const item = this.#items[this.#at];
    this.#at = (this.#at + 1) % this.#items.length;
    return item;
  }
}

class Joiner extends PyCallable {
  readonly typeName = 'Joiner';
  readonly #separator: Value;
  #used = false;

  constructor(separator: Value) {
    super();
    this.#separator = separator;
  }

  override call(): Value {
    if (this.#used) return this.#separator;
    this.#used = true;
    return '';
  }
}

function cycler(_: Runtime, args: Value[]): Value {
  if (args.length === 0) throw new JinjaError('RuntimeError', 'at least one item has to be provided');
  return new Cycler(args);
}

/** `range`, `dict`, `namespace`, `cycler`, `joiner`, `raise_exception`. */
export const globals: ReadonlyMap<string, Value> = new Map<string, Value>([
  ['range', new PyFunction('range', range, 'type')],
  ['dict', new PyFunction('dict', dict, 'type')],
  ['namespace', new PyFunction('namespace', namespace, 'type')],
  ['cycler', new PyFunction('cycler', cycler, 'type')],
  ['joiner', new PyFunction('joiner', (_, args, kwargs) => new Joiner(bind('joiner', ['sep'], args, kwargs)[0] ?? ', '), 'type')],
  ['raise_exception', new PyFunction('raise_exception', raiseException)],
]);
