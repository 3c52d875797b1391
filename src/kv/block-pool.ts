/** The blocks of one cache group: who holds each, which are free, which only the prefix tree remembers. */
import { invariant } from '../base/errors.ts';
import { EvictionOrder } from './eviction/order.ts';

export const NO_BLOCK = -1;
export const NO_NODE = -1;

/**
 * Blocks as a struct of arrays. A block is in exactly one state:
 * `free` (no holder, not in the tree), `cached` (no holder, in the tree, evictable) or `referenced` (held by one or more sequences).
 * Free blocks lie on an intrusive list. Cached blocks that may go now (leaves of the tree; in a window group all) stand in an order of eviction.
 */
export class BlockPool {
  readonly numBlocks: number;
  readonly #references: Int32Array;
  /** Tree node that remembers the block, or NO_NODE. */
  readonly #nodes: Int32Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #freeList: number;
  readonly #evictable: EvictionOrder;
  #numFree = 0;
  #numCached = 0;

  constructor(numBlocks: number) {
    this.numBlocks = numBlocks;
    this.#references = new Int32Array(numBlocks);
    this.#nodes = new Int32Array(numBlocks).fill(NO_NODE);
    this.#evictable = new EvictionOrder(numBlocks);
    // a sentinel behind the blocks closes the ring
    this.#next = new Int32Array(numBlocks + 1);
    this.#previous = new Int32Array(numBlocks + 1);
    this.#freeList = numBlocks;
    this.#next[this.#freeList] = this.#freeList;
    this.#previous[this.#freeList] = this.#freeList;
    for (let block = 0; block < numBlocks; block++) this.#insertAfter(this.#previous[this.#freeList], block);
    this.#numFree = numBlocks;
  }

  get numFree(): number {
    return this.#numFree;
  }

  get numCached(): number {
    return this.#numCached;
  }

  get numReferenced(): number {
    return this.numBlocks - this.#numFree - this.#numCached;
  }

  /** Blocks that can be had now: free ones and those that eviction would free. */
  get numAvailable(): number {
    return this.#numFree + this.#numCached;
  }

  references(block: number): number {
    return this.#references[block];
  }

  node(block: number): number {
    return this.#nodes[block];
  }

  /** Takes a free block with one reference. @returns NO_BLOCK when none is free */
  take(): number {
    const block = this.#next[this.#freeList];
    if (block === this.#freeList) return NO_BLOCK;
    this.#unlink(block);
    this.#numFree--;
    this.#references[block] = 1;
    return block;
  }

  /** One more holder of a block that is cached or referenced. */
  hold(block: number): void {
    if (this.#references[block]++ > 0) return;
    this.withdraw(block);
    this.#numCached--;
  }

  /** One holder fewer. @returns whether it was the last and the block is cached now; else it is held still, or free */
  release(block: number): boolean {
    invariant(this.#references[block] > 0, `block ${block} is released without a holder`);
    if (--this.#references[block] > 0) return false;
    if (this.#nodes[block] === NO_NODE) {
      this.#free(block);
      return false;
    }
    this.#numCached++;
    return true;
  }

  isCached(block: number): boolean {
    return this.#references[block] === 0 && this.#nodes[block] !== NO_NODE;
  }

  /** A cached block may be evicted from now on, in the order of keys. */
  offer(block: number, key: number): void {
    invariant(this.isCached(block), `block ${block} is not cached`);
    if (!this.#evictable.has(block)) this.#evictable.add(block, key);
  }

  /** It may not be evicted any more. */
  withdraw(block: number): void {
    if (this.#evictable.has(block)) this.#evictable.remove(block);
  }

  /** The tree remembers a referenced block from now on. */
  bind(block: number, node: number): void {
    invariant(this.#references[block] > 0 && this.#nodes[block] === NO_NODE, `block ${block} cannot enter the tree`);
    this.#nodes[block] = node;
  }

  /** The tree forgets a block; without a holder it is free. */
  unbind(block: number): void {
    this.#nodes[block] = NO_NODE;
    if (this.#references[block] > 0) return;
    this.withdraw(block);
    this.#numCached--;
    this.#free(block);
  }

  /** The block that goes next, or NO_BLOCK. */
  get nextToEvict(): number {
    return this.#evictable.first;
  }

  /** Key of the block that goes next; Infinity when there is none. */
  get nextKey(): number {
    const block = this.#evictable.first;
    return block === NO_BLOCK ? Infinity : this.#evictable.key(block);
  }

  isEvictable(block: number): boolean {
    return this.#evictable.has(block);
  }

  /** Recounts everything and compares with the states. `holders[block]` is how many sequences say that they hold it. @throws INTERNAL */
  check(holders: Int32Array): void {
    const free = this.#walk(this.#freeList);
    let cached = 0;
    let evictable = 0;
    let referenced = 0;
    for (let block = 0; block < this.numBlocks; block++) {
      invariant(this.#references[block] === holders[block], `block ${block} counts ${this.#references[block]} holders but has ${holders[block]}`);
      if (holders[block] > 0) referenced++;
      if (this.isCached(block)) cached++;
      if (this.#evictable.has(block)) evictable++;
      const isFree = holders[block] === 0 && this.#nodes[block] === NO_NODE;
      invariant(free.has(block) === isFree, `block ${block} is ${isFree ? 'free but not listed' : 'listed as free but is not'}`);
      invariant(this.isCached(block) || !this.#evictable.has(block), `block ${block} may be evicted but is not cached`);
    }
    invariant(free.size === this.#numFree && cached === this.#numCached, 'block counts differ from the blocks');
    invariant(evictable === this.#evictable.size, 'the order of eviction has lost a block');
    invariant(free.size + cached + referenced === this.numBlocks, 'free + cached + referenced is not the total');
  }

  #walk(list: number): Set<number> {
    const found = new Set<number>();
    for (let block = this.#next[list]; block !== list; block = this.#next[block]) {
      invariant(!found.has(block), `block ${block} is listed twice`);
      found.add(block);
    }
    return found;
  }

  /** Freed blocks are taken again first: they are the likeliest to be warm in the processor's cache. */
  #free(block: number): void {
    this.#insertAfter(this.#freeList, block);
    this.#numFree++;
  }

  #insertAfter(before: number, block: number): void {
    const after = this.#next[before];
    this.#next[before] = block;
    this.#previous[block] = before;
    this.#next[block] = after;
    this.#previous[after] = block;
  }

  #unlink(block: number): void {
    this.#next[this.#previous[block]] = this.#next[block];
    this.#previous[this.#next[block]] = this.#previous[block];
  }
}
