/**
 * Byte pair encoding of one pre-token: merge the adjacent pair of lowest rank, leftmost first, until none is left
 * (Sennrich et al. 2016, arXiv 1508.07909). Words by scanning, long pieces by a heap: O(n log n) on any input.
 */
import { characterOfByte } from './byte-alphabet.ts';
import type { MergeList } from './definition.ts';
import type { Vocabulary } from './vocabulary.ts';

/** Plain parts of a model; may be sent to a worker thread. */
export interface BytePairData {
  readonly kind: 'byte-pair';
  /** Open addressing table of merges: groups of (left, right, rank, merged), left -1 where free. */
  readonly merges: Int32Array;
  /** `[size]`: 1 for ids that plain text must never produce (special tokens). */
  readonly blocked: Uint8Array;
  /** Pieces are bytes (byte-level) rather than characters. */
  readonly byteLevel: boolean;
  readonly byteFallback: boolean;
  readonly ignoreMerges: boolean;
  /** Id of an unknown character, or -1 to leave it out. */
  readonly unkId: number;
  readonly fuseUnknown: boolean;
  /** A merge never crosses from another character into `▁`, so text may be cut before it. */
  readonly cutsBeforeSpaceMark: boolean;
}

/** Ids under construction; grows as needed. */
export class IdBuffer {
  ids = new Int32Array(256);
  length = 0;

  push(id: number): void {
    if (this.length === this.ids.length) this.#grow(this.length + 1);
    this.ids[this.length++] = id;
  }

  append(source: ArrayLike<number>, count: number): void {
    if (this.length + count > this.ids.length) this.#grow(this.length + count);
    for (let i = 0; i < count; i++) this.ids[this.length + i] = source[i];
    this.length += count;
  }

  take(): Int32Array {
    return this.ids.slice(0, this.length);
  }

  #grow(needed: number): void {
    const grown = new Int32Array(Math.max(needed, this.ids.length * 2));
    grown.set(this.ids.subarray(0, this.length));
    this.ids = grown;
  }
}

/** Longer pieces are rare, and V8 keeps the whole text alive for a long substring. */
const maxCachedPieceLength = 12;
const maxCachedPieces = 1 << 15;
/** Scratch memory above this many elements is given back after use. */
const maxKeptScratch = 1 << 18;
/** Up to here scanning beats the heap. */
const scanLimit = 48;
/** `rank * positions + position` stays below 2^53 for ranks up to 2^24. */
const positions = 2 ** 28;

/** @returns the table of `BytePairData.merges`; merges into a blocked id are left out, of equal pairs the first counts */
export function buildMergeTable(list: MergeList, blocked: Uint8Array): Int32Array {
  let capacity = 16;
  while (capacity < list.left.length * 2) capacity *= 2;
  const table = new Int32Array(new SharedArrayBuffer(capacity * 16));
  for (let i = 0; i < table.length; i += 4) table[i] = -1;
  const mask = capacity - 1;
  for (let i = 0; i < list.left.length; i++) {
    const left = list.left[i];
    const right = list.right[i];
    if (blocked[list.merged[i]] === 1) continue;
    let slot = hashPair(left, right) & mask;
    while (table[slot * 4] >= 0 && !(table[slot * 4] === left && table[slot * 4 + 1] === right)) slot = (slot + 1) & mask;
    if (table[slot * 4] >= 0) continue;
    table[slot * 4] = left;
    table[slot * 4 + 1] = right;
    table[slot * 4 + 2] = list.rank[i];
    table[slot * 4 + 3] = list.merged[i];
  }
  return table;
}

export class BytePairModel {
  readonly #data: BytePairData;
  readonly #vocabulary: Vocabulary;
  readonly #merges: Int32Array;
  readonly #mask: number;
  /** Id of each byte: of its alphabet character, or of `<0xNN>`; -1 where the vocabulary lacks it. */
  readonly #byteIds = new Int32Array(256);
  readonly #fallbackComplete: boolean;
  readonly #cache = new Map<string, readonly number[]>();
  readonly #textEncoder = new TextEncoder();
  #utf8 = new Uint8Array(1024);
  #symbols = new Int32Array(1024);
  readonly #ranks = new Int32Array(scanLimit);

  constructor(data: BytePairData, vocabulary: Vocabulary) {
    this.#data = data;
    this.#vocabulary = vocabulary;
    this.#merges = data.merges;
    this.#mask = data.merges.length / 4 - 1;
    for (let byte = 0; byte < 256; byte++) {
      const spelling = data.byteLevel ? characterOfByte[byte] : `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
      this.#byteIds[byte] = this.#allowed(vocabulary.id(spelling));
    }
    this.#fallbackComplete = data.byteFallback && this.#byteIds.every((id) => id >= 0);
  }

  /** Appends the ids of one pre-token. */
  encode(piece: string, out: IdBuffer): void {
    if (!this.#data.cutsBeforeSpaceMark) {
      this.#encodeUncut(piece, out);
      return;
    }
    let start = 0;
    for (let at = piece.indexOf('▁', 1); at >= 0; at = piece.indexOf('▁', at + 1)) {
      if (piece[at - 1] === '▁') continue;
      this.#encodeUncut(piece.slice(start, at), out);
      start = at;
    }
    this.#encodeUncut(start === 0 ? piece : piece.slice(start), out);
  }

  #encodeUncut(piece: string, out: IdBuffer): void {
    if (piece.length === 0) return;
    if (piece.length > maxCachedPieceLength) {
      const count = this.#encodeUncached(piece);
      out.append(this.#symbols, count);
      if (this.#utf8.length > maxKeptScratch) this.#utf8 = new Uint8Array(1024);
      if (this.#symbols.length > maxKeptScratch) this.#symbols = new Int32Array(1024);
      return;
    }
    let ids = this.#cache.get(piece);
    if (ids === undefined) {
      const count = this.#encodeUncached(piece);
      ids = Array.from(this.#symbols.subarray(0, count));
      if (this.#cache.size >= maxCachedPieces) this.#cache.clear();
      this.#cache.set(piece, ids);
    }
    out.append(ids, ids.length);
  }

  /** Leaves the ids in `#symbols`. @returns how many */
  #encodeUncached(piece: string): number {
    if (this.#utf8.length < piece.length * 3) this.#utf8 = new Uint8Array(piece.length * 3);
    const { written } = this.#textEncoder.encodeInto(piece, this.#utf8);
    if (this.#symbols.length < written) this.#symbols = new Int32Array(written);
    if (this.#data.ignoreMerges) {
      const whole = this.#allowed(this.#wholeId(written));
      if (whole >= 0) {
        this.#symbols[0] = whole;
        return 1;
      }
    }
    const count = this.#data.byteLevel ? this.#byteSymbols(written) : this.#characterSymbols(written);
    return count <= scanLimit ? this.#mergeByScan(count) : this.#mergeByHeap(count);
  }

  #wholeId(written: number): number {
    if (!this.#data.byteLevel) return this.#vocabulary.idOfBytes(this.#utf8, 0, written);
    if (written > 1024) return -1;
    let spelling = '';
    for (let i = 0; i < written; i++) spelling += characterOfByte[this.#utf8[i]];
    return this.#vocabulary.id(spelling);
  }

  #byteSymbols(written: number): number {
    let count = 0;
    let unknownBefore = false;
    for (let i = 0; i < written; i++) {
      const id = this.#byteIds[this.#utf8[i]];
      if (id >= 0) this.#symbols[count++] = id;
      else if (this.#data.unkId >= 0 && !(unknownBefore && this.#data.fuseUnknown)) this.#symbols[count++] = this.#data.unkId;
      unknownBefore = id < 0;
    }
    return count;
  }

  #characterSymbols(written: number): number {
    let count = 0;
    let unknownBefore = false;
    for (let i = 0; i < written; ) {
      const lead = this.#utf8[i];
      const next = i + (lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4);
      const id = this.#allowed(this.#vocabulary.idOfBytes(this.#utf8, i, next));
      if (id >= 0) this.#symbols[count++] = id;
      else if (this.#fallbackComplete) for (let j = i; j < next; j++) this.#symbols[count++] = this.#byteIds[this.#utf8[j]];
      else if (this.#data.unkId >= 0 && !(unknownBefore && this.#data.fuseUnknown)) this.#symbols[count++] = this.#data.unkId;
      unknownBefore = id < 0 && !this.#fallbackComplete;
      i = next;
    }
    return count;
  }

  #allowed(id: number): number {
    return id >= 0 && this.#data.blocked[id] === 1 ? -1 : id;
  }

  /** @returns index of the merge of two ids in the table, or -1 */
  #findMerge(left: number, right: number): number {
    const merges = this.#merges;
    for (let slot = hashPair(left, right) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = slot * 4;
      if (merges[at] < 0) return -1;
      if (merges[at] === left && merges[at + 1] === right) return at;
    }
  }

  #rankOf(left: number, right: number): number {
    const at = this.#findMerge(left, right);
    return at < 0 ? -1 : this.#merges[at + 2];
  }

  #mergeByScan(given: number): number {
    const symbols = this.#symbols;
    const ranks = this.#ranks;
    let count = given;
    for (let i = 0; i + 1 < count; i++) ranks[i] = this.#rankOf(symbols[i], symbols[i + 1]);
    for (;;) {
      let best = -1;
      for (let i = 0; i + 1 < count; i++) if (ranks[i] >= 0 && (best < 0 || ranks[i] < ranks[best])) best = i;
      if (best < 0) return count;
      symbols[best] = this.#merges[this.#findMerge(symbols[best], symbols[best + 1]) + 3];
      symbols.copyWithin(best + 1, best + 2, count);
      ranks.copyWithin(best + 1, best + 2, count);
      count--;
      if (best > 0) ranks[best - 1] = this.#rankOf(symbols[best - 1], symbols[best]);
      if (best + 1 < count) ranks[best] = this.#rankOf(symbols[best], symbols[best + 1]);
    }
  }

  /** Doubly linked symbols and a heap of candidate pairs; a candidate that no longer holds is skipped when it surfaces. */
  #mergeByHeap(count: number): number {
    const symbols = this.#symbols;
    const next = new Int32Array(count);
    const previous = new Int32Array(count);
    const heap = new CandidateHeap(count);
    for (let i = 0; i < count; i++) {
      next[i] = i + 1 < count ? i + 1 : -1;
      previous[i] = i - 1;
      if (i > 0) heap.pushPair(this.#rankOf(symbols[i - 1], symbols[i]), i - 1);
    }
    while (heap.size > 0) {
      const key = heap.pop();
      const rank = Math.floor(key / positions);
      const at = key - rank * positions;
      if (symbols[at] < 0 || next[at] < 0) continue;
      const right = next[at];
      const merge = this.#findMerge(symbols[at], symbols[right]);
      if (merge < 0 || this.#merges[merge + 2] !== rank) continue;
      symbols[at] = this.#merges[merge + 3];
      symbols[right] = -1;
      next[at] = next[right];
      if (next[right] >= 0) previous[next[right]] = at;
      if (previous[at] >= 0) heap.pushPair(this.#rankOf(symbols[previous[at]], symbols[at]), previous[at]);
      if (next[at] >= 0) heap.pushPair(this.#rankOf(symbols[at], symbols[next[at]]), at);
    }
    let kept = 0;
    for (let i = 0; i < count; i++) if (symbols[i] >= 0) symbols[kept++] = symbols[i];
    return kept;
  }
}

/** Binary heap of `rank * positions + position`, smallest first. */
class CandidateHeap {
  size = 0;
  #keys: Float64Array;

  constructor(numSymbols: number) {
    this.#keys = new Float64Array(numSymbols * 2 + 16);
  }

  pushPair(rank: number, position: number): void {
    if (rank < 0) return;
    if (this.size === this.#keys.length) {
      const grown = new Float64Array(this.#keys.length * 2);
      grown.set(this.#keys);
      this.#keys = grown;
    }
    const keys = this.#keys;
    const key = rank * positions + position;
    let node = this.size++;
    while (node > 0) {
      const parent = (node - 1) >> 1;
      if (keys[parent] <= key) break;
      keys[node] = keys[parent];
      node = parent;
    }
    keys[node] = key;
  }

  pop(): number {
    const keys = this.#keys;
    const smallest = keys[0];
    const last = keys[--this.size];
    let node = 0;
    for (;;) {
      let child = node * 2 + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && keys[child + 1] < keys[child]) child++;
      if (keys[child] >= last) break;
      keys[node] = keys[child];
      node = child;
    }
    keys[node] = last;
    return smallest;
  }
}

function hashPair(left: number, right: number): number {
  let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) >>> 0;
}
