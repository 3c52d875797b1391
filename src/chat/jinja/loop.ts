/** The variable `loop`. Items are read as they are needed: the condition of a loop may depend on what its body did. */
import { typeError } from './errors.ts';
import { equal } from './operators.ts';
import type { Runtime } from './runtime.ts';
import { type Kwargs, PyCallable, PyFunction, PyTuple, Undefined, type Value } from './values.ts';

/** Renders the body for other items, one level deeper. */
export type Recurse = (rt: Runtime, items: Value, depth: number) => Value;

export class LoopContext extends PyCallable {
  readonly typeName = 'LoopContext';
  readonly #rt: Runtime;
  readonly #recurse: Recurse | null;
  readonly #depth0: number;
  #iterator: Iterator<Value>;
  #length: number | undefined;
  /** Read ahead of the current item. */
  #ahead: Value | undefined;
  #before: Value | undefined;
  #current: Value | undefined;
  #index0 = -1;
  #changed: Value | undefined;

  /** @param length of the items, undefined when it is not known before they are read */
  constructor(rt: Runtime, items: Iterable<Value>, length: number | undefined, recurse: Recurse | null, depth0: number) {
    super();
    this.#rt = rt;
    this.#iterator = items[Symbol.iterator]();
    this.#length = length;
    this.#recurse = recurse;
    this.#depth0 = depth0;
  }

  /** Goes to the next item. @returns undefined at the end */
  next(): Value | undefined {
    const item = this.#peek();
    this.#ahead = undefined;
    if (item === undefined) return undefined;
    this.#index0++;
    this.#before = this.#current;
    this.#current = item;
    return item;
  }

  #peek(): Value | undefined {
    if (this.#ahead !== undefined) return this.#ahead;
    const { done, value } = this.#iterator.next();
    if (done !== true) this.#ahead = value;
    return this.#ahead;
  }

  #lengthNow(): number {
    if (this.#length !== undefined) return this.#length;
    const rest: Value[] = [];
    for (let { done, value } = this.#iterator.next(); done !== true; { done, value } = this.#iterator.next()) {
      this.#rt.step();
      rest.push(value);
    }
    this.#iterator = rest[Symbol.iterator]();
    this.#length = rest.length + this.#index0 + 1 + (this.#ahead === undefined ? 0 : 1);
    return this.#length;
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case 'index':
        return this.#index0 + 1;
      case 'index0':
        return this.#index0;
      case 'first':
        return this.#index0 === 0;
      case 'last':
        return this.#peek() === undefined;
      case 'length':
        return this.#lengthNow();
      case 'revindex':
        return this.#lengthNow() - this.#index0;
      case 'revindex0':
        return this.#lengthNow() - this.#index0 - 1;
      case 'depth':
        return this.#depth0 + 1;
      case 'depth0':
        return this.#depth0;
      case 'previtem':
        return this.#index0 === 0 ? new Undefined('there is no previous item') : this.#before;
      case 'nextitem':
        return this.#peek() ?? (this.#ahead === undefined ? new Undefined('there is no next item') : null);
      case 'cycle':
        return new PyFunction('cycle', (_, args) => this.#cycle(args), 'method');
      case 'changed':
        return new PyFunction('changed', (rt, args) => this.#hasChanged(rt, args), 'method');
      default:
        return undefined;
    }
  }

  #cycle(args: Value[]): Value {
    if (args.length === 0) throw typeError('no items for cycling given');
    return args[this.#index0 % args.length];
  }

  #hasChanged(rt: Runtime, args: Value[]): boolean {
    const value = new PyTuple(args);
    if (this.#changed !== undefined && equal(rt, this.#changed, value)) return false;
    this.#changed = value;
    return true;
  }

  override call(rt: Runtime, args: Value[], _: Kwargs): Value {
    if (this.#recurse === null) throw typeError("The loop must have the 'recursive' marker to be called recursively.");
    return this.#recurse(rt, args[0] ?? null, this.#depth0 + 1);
  }
}
