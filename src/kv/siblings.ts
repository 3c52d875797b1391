/**
 * The children of every node of the prefix tree, in order of their tokens: one treap a parent, all of them in the same few arrays. Finding the
 * child with the longest common head, inserting and removing take O(log n) comparisons, and no child costs an object of its own.
 *
 * Treaps: Seidel & Aragon, "Randomized Search Trees", 1996. Priorities are a hash of the node's number, so that nobody's tokens can unbalance one.
 */
import { invariant } from '../base/errors.ts';
import { NO_NODE } from './block-pool.ts';

/** Nodes are numbers below `capacity`; whoever owns them sets their tokens before they are linked in. */
export class Siblings {
  readonly blockSize: number;
  /** Root of the treap of each node's children. */
  #tops: Int32Array;
  #lefts: Int32Array;
  #rights: Int32Array;
  #lengths: Int32Array;
  /** `[capacity, blockSize]` */
  #tokens: Int32Array;
  /** Result of the last `longest`: how many tokens it shares. */
  commonLength = 0;

  constructor(blockSize: number, capacity: number) {
    this.blockSize = blockSize;
    this.#tops = new Int32Array(capacity);
    this.#lefts = new Int32Array(capacity);
    this.#rights = new Int32Array(capacity);
    this.#lengths = new Int32Array(capacity);
    this.#tokens = new Int32Array(capacity * blockSize);
  }

  grow(capacity: number): void {
    this.#tops = grown(this.#tops, capacity);
    this.#lefts = grown(this.#lefts, capacity);
    this.#rights = grown(this.#rights, capacity);
    this.#lengths = grown(this.#lengths, capacity);
    this.#tokens = grown(this.#tokens, capacity * this.blockSize);
  }

  /** A node without children, for `tokens[start, start + count)`. */
  set(node: number, tokens: Int32Array, start: number, count: number): void {
    this.#tops[node] = NO_NODE;
    this.#lengths[node] = count;
    const base = node * this.blockSize;
    for (let i = 0; i < count; i++) this.#tokens[base + i] = tokens[start + i];
  }

  length(node: number): number {
    return this.#lengths[node];
  }

  /** Copies the tokens of a node to the start of `target`. */
  copyTokens(node: number, target: Int32Array): void {
    const base = node * this.blockSize;
    for (let i = 0; i < this.#lengths[node]; i++) target[i] = this.#tokens[base + i];
  }

  hasChildren(parent: number): boolean {
    return this.#tops[parent] !== NO_NODE;
  }

  /**
   * The child that shares most tokens with `tokens[start, start + count)`; how many is left in `commonLength`.
   * @returns NO_NODE when none shares the first
   */
  longest(parent: number, tokens: Int32Array, start: number, count: number): number {
    let best = NO_NODE;
    let most = 0;
    // in sorted order the longest common head is next to where the tokens would stand, and a search passes both neighbours
    for (let at = this.#tops[parent]; at !== NO_NODE; ) {
      const common = this.#common(at, tokens, start, count);
      if (common > most) {
        most = common;
        best = at;
      }
      at = this.#isBefore(at, common, tokens, start, count) ? this.#rights[at] : this.#lefts[at];
    }
    this.commonLength = most;
    return best;
  }

  /** Links in a node that `set` has been called for. No equal child may exist. */
  insert(parent: number, node: number): void {
    const tokens = this.#tokens;
    const start = node * this.blockSize;
    const count = this.#lengths[node];
    const priority = priorityOf(node);
    let at = this.#tops[parent];
    let above = NO_NODE;
    let isRight = false;
    while (at !== NO_NODE && priorityOf(at) >= priority) {
      above = at;
      isRight = this.#isBefore(at, this.#common(at, tokens, start, count), tokens, start, count);
      at = isRight ? this.#rights[at] : this.#lefts[at];
    }
    this.#split(at, node, start, count);
    this.#hook(parent, above, isRight, node);
  }

  /** Takes a child out. */
  remove(parent: number, node: number): void {
    const tokens = this.#tokens;
    const start = node * this.blockSize;
    const count = this.#lengths[node];
    let at = this.#tops[parent];
    let above = NO_NODE;
    let isRight = false;
    while (at !== node) {
      invariant(at !== NO_NODE, `tree node ${node} is not among its siblings`);
      above = at;
      isRight = this.#isBefore(at, this.#common(at, tokens, start, count), tokens, start, count);
      at = isRight ? this.#rights[at] : this.#lefts[at];
    }
    let left = this.#lefts[node];
    let right = this.#rights[node];
    while (left !== NO_NODE || right !== NO_NODE) {
      const takesLeft = right === NO_NODE || (left !== NO_NODE && priorityOf(left) >= priorityOf(right));
      const next = takesLeft ? left : right;
      this.#hook(parent, above, isRight, next);
      above = next;
      isRight = takesLeft;
      if (takesLeft) left = this.#rights[next];
      else right = this.#lefts[next];
    }
    this.#hook(parent, above, isRight, NO_NODE);
  }

  /** Pushes the children of a node. For checks and tests. */
  collect(parent: number, into: number[]): void {
    const stack = [this.#tops[parent]];
    for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
      if (node === NO_NODE) continue;
      into.push(node);
      stack.push(this.#lefts[node], this.#rights[node]);
    }
  }

  /** Divides a subtreap at a node's tokens into what comes before (its left) and after (its right). */
  #split(top: number, node: number, start: number, count: number): void {
    let lastLeft = NO_NODE;
    let lastRight = NO_NODE;
    this.#lefts[node] = NO_NODE;
    this.#rights[node] = NO_NODE;
    for (let at = top; at !== NO_NODE; ) {
      if (this.#isBefore(at, this.#common(at, this.#tokens, start, count), this.#tokens, start, count)) {
        if (lastLeft === NO_NODE) this.#lefts[node] = at;
        else this.#rights[lastLeft] = at;
        lastLeft = at;
        at = this.#rights[at];
      } else {
        if (lastRight === NO_NODE) this.#rights[node] = at;
        else this.#lefts[lastRight] = at;
        lastRight = at;
        at = this.#lefts[at];
      }
    }
    if (lastLeft !== NO_NODE) this.#rights[lastLeft] = NO_NODE;
    if (lastRight !== NO_NODE) this.#lefts[lastRight] = NO_NODE;
  }

  #hook(parent: number, above: number, isRight: boolean, node: number): void {
    if (above === NO_NODE) this.#tops[parent] = node;
    else if (isRight) this.#rights[above] = node;
    else this.#lefts[above] = node;
  }

  /** Whether a node comes before the tokens, of which it shares `common`; a head comes before what it is the head of. */
  #isBefore(node: number, common: number, tokens: Int32Array, start: number, count: number): boolean {
    if (common === count) return false;
    if (common === this.#lengths[node]) return true;
    return this.#tokens[node * this.blockSize + common] < tokens[start + common];
  }

  #common(node: number, tokens: Int32Array, start: number, count: number): number {
    const own = this.#tokens;
    const base = node * this.blockSize;
    const most = Math.min(count, this.#lengths[node]);
    let i = 0;
    while (i < most && own[base + i] === tokens[start + i]) i++;
    return i;
  }
}

/** A larger copy. */
export function grown<T extends Int32Array | Float64Array>(array: T, length: number): T {
  const larger = new (array.constructor as new (length: number) => T)(length);
  larger.set(array);
  return larger;
}

/** Mixes the bits of a number (the finaliser of MurmurHash3, Appleby 2008). */
function priorityOf(node: number): number {
  let h = Math.imul(node ^ (node >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
