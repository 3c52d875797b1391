/** The blocks of one cache group: who holds each, which are free, which only the prefix tree remembers. */
import { invariant } from '../base/errors.ts';

export const NO_BLOCK = -1;
export const NO_NODE = -1;

/**
 * Blocks as a struct of arrays. A block is in exactly one state:
 * `free` (no holder, not in the tree), `cached` (no holder, in the tree, evictable) or `referenced` (held by one or more sequences).
 * Free blocks and cached blocks lie on two intrusive lists, so every move is O(1). The cached list is in order of last use.
 */
export class BlockPool {
  readonly numBlocks: number;
  readonly #references: Int32Array;
  /** Tree node that remembers the block, or NO_NODE. */
  readonly #nodes: Int32Array;
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #freeList: number;
  readonly #cachedList: number;
  #numFree = 0;
  #numCached = 0;

  constructor(numBlocks: number) {
    this.numBlocks = numBlocks;
    this.#references = new Int32Array(numBlocks);
    this.#nodes = new Int32Array(numBlocks).fill(NO_NODE);
    // two sentinels behind the blocks close the two rings
    this.#next = new Int32Array(numBlocks + 2);
    this.#previous = new Int32Array(numBlocks + 2);
    this.#freeList = numBlocks;
    this.#cachedList = numBlocks + 1;
    for (const list of [this.#freeList, this.#cachedList]) {
      this.#next[list] = list;
      this.#previous[list] = list;
    }
    for (let block = 0; block < numBlocks; block++) this.#append(this.#freeList, block);
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
    if (this.#references[block]++ === 0) {
      this.#unlink(block);
      this.#numCached--;
    }
  }

  /** One holder fewer; the last one leaves it cached, as the most recently used, or free. */
  release(block: number): void {
    invariant(this.#references[block] > 0, `block ${block} is released without a holder`);
    if (--this.#references[block] > 0) return;
    if (this.#nodes[block] === NO_NODE) {
      this.#prepend(this.#freeList, block);
      this.#numFree++;
    } else {
      this.#append(this.#cachedList, block);
      this.#numCached++;
    }
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
    this.#unlink(block);
    this.#numCached--;
    this.#prepend(this.#freeList, block);
    this.#numFree++;
  }

  /** The cached block used longest ago, or NO_BLOCK. */
  leastRecentlyUsed(): number {
    const block = this.#next[this.#cachedList];
    return block === this.#cachedList ? NO_BLOCK : block;
  }

  /** Recounts both lists and compares with the states. `holders[block]` is how many sequences say that they hold it. @throws INTERNAL */
  check(holders: Int32Array): void {
    const free = this.#walk(this.#freeList);
    const cached = this.#walk(this.#cachedList);
    let referenced = 0;
    for (let block = 0; block < this.numBlocks; block++) {
      invariant(this.#references[block] === holders[block], `block ${block} counts ${this.#references[block]} holders but has ${holders[block]}`);
      if (holders[block] > 0) referenced++;
      const expected = holders[block] > 0 ? 'referenced' : this.#nodes[block] === NO_NODE ? 'free' : 'cached';
      const found = free.has(block) ? 'free' : cached.has(block) ? 'cached' : 'referenced';
      invariant(expected === found, `block ${block} lies with the ${found} blocks but is ${expected}`);
    }
    invariant(free.size === this.#numFree && cached.size === this.#numCached, 'block counts differ from the lists');
    invariant(free.size + cached.size + referenced === this.numBlocks, 'free + cached + referenced is not the total');
  }

  #walk(list: number): Set<number> {
    const found = new Set<number>();
    for (let block = this.#next[list]; block !== list; block = this.#next[block]) {
      invariant(!found.has(block), `block ${block} is listed twice`);
      found.add(block);
    }
    return found;
  }

  #append(list: number, block: number): void {
    this.#insertAfter(this.#previous[list], block);
  }

  /** Freed blocks are taken again first: they are the likeliest to be warm in the processor's cache. */
  #prepend(list: number, block: number): void {
    this.#insertAfter(list, block);
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
