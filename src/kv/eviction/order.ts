/** Blocks that may be evicted, by key: a binary heap that knows where each block lies, so that any can be taken out. */
import { NO_BLOCK } from '../block-pool.ts';

export class EvictionOrder {
  readonly #heap: Int32Array;
  /** Place of each block in the heap, or -1. */
  readonly #places: Int32Array;
  readonly #keys: Float64Array;
  /** Order of entry, for equal keys. */
  readonly #entries: Float64Array;
  #size = 0;
  #numEntries = 0;

  constructor(numBlocks: number) {
    this.#heap = new Int32Array(numBlocks);
    this.#places = new Int32Array(numBlocks).fill(-1);
    this.#keys = new Float64Array(numBlocks);
    this.#entries = new Float64Array(numBlocks);
  }

  get size(): number {
    return this.#size;
  }

  /** The block with the lowest key, of equal ones the first that came, or NO_BLOCK. */
  get first(): number {
    return this.#size === 0 ? NO_BLOCK : this.#heap[0];
  }

  has(block: number): boolean {
    return this.#places[block] >= 0;
  }

  key(block: number): number {
    return this.#keys[block];
  }

  add(block: number, key: number): void {
    this.#keys[block] = key;
    this.#entries[block] = this.#numEntries++;
    this.#put(block, this.#size++);
    this.#rise(this.#places[block]);
  }

  remove(block: number): void {
    const place = this.#places[block];
    this.#places[block] = -1;
    const last = this.#heap[--this.#size];
    if (last === block) return;
    this.#put(last, place);
    this.#rise(place);
    this.#sink(this.#places[last]);
  }

  #put(block: number, place: number): void {
    this.#heap[place] = block;
    this.#places[block] = place;
  }

  #isBefore(a: number, b: number): boolean {
    return this.#keys[a] < this.#keys[b] || (this.#keys[a] === this.#keys[b] && this.#entries[a] < this.#entries[b]);
  }

  #rise(from: number): void {
    let place = from;
    const block = this.#heap[place];
    while (place > 0) {
      const above = (place - 1) >>> 1;
      if (!this.#isBefore(block, this.#heap[above])) break;
      this.#put(this.#heap[above], place);
      place = above;
    }
    this.#put(block, place);
  }

  #sink(from: number): void {
    let place = from;
    const block = this.#heap[place];
    for (;;) {
      let below = 2 * place + 1;
      if (below >= this.#size) break;
      if (below + 1 < this.#size && this.#isBefore(this.#heap[below + 1], this.#heap[below])) below++;
      if (!this.#isBefore(this.#heap[below], block)) break;
      this.#put(this.#heap[below], place);
      place = below;
    }
    this.#put(block, place);
  }
}
