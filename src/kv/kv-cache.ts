/**
 * The one door to KV memory: who owns which block. Integers only; the bytes are the backend's.
 *
 * Life of a sequence: `open` -> `matchPrefix` (or `fork`) -> `allocate` before each step -> `publish` after it -> `free`.
 * A full block that has been computed enters the prefix tree; a later prompt shares it by reference. A match that ends inside a block is used to
 * the token by copying the head of that block into one of the newcomer's own.
 */
import { invariant } from '../base/errors.ts';
import { BlockPool, NO_BLOCK, NO_NODE } from './block-pool.ts';
import { blocksForTokens, firstKeyIndex, type KvGroup, peakBlocks } from './layout.ts';
import { RadixTree } from './radix-tree.ts';
import { KvSequence } from './sequence.ts';

export interface KvCacheOptions {
  readonly groups: readonly (KvGroup & { readonly numBlocks: number })[];
  /** Tokens in a block. */
  readonly blockSize: number;
  readonly enablePrefixCaching: boolean;
}

/** Integers of one block copy: group, source, destination, tokens. */
export const COPY_STRIDE = 4;

export class KvCache {
  readonly blockSize: number;
  readonly groups: KvCacheOptions['groups'];
  readonly enablePrefixCaching: boolean;
  readonly #pools: readonly BlockPool[];
  readonly #tree: RadixTree;
  /** Nodes of the path that the last walk followed. */
  #path = new Int32Array(64);
  #copies = new Int32Array(16 * COPY_STRIDE);
  #numCopies = 0;

  constructor(options: KvCacheOptions) {
    this.blockSize = options.blockSize;
    this.groups = options.groups;
    this.enablePrefixCaching = options.enablePrefixCaching;
    this.#pools = options.groups.map((group) => new BlockPool(group.numBlocks));
    this.#tree = new RadixTree(options.blockSize, options.groups.length);
  }

  /** Block counts over all groups. */
  get numBlocks(): number {
    return this.#pools.reduce((sum, pool) => sum + pool.numBlocks, 0);
  }

  get numReferenced(): number {
    return this.#pools.reduce((sum, pool) => sum + pool.numReferenced, 0);
  }

  get numCached(): number {
    return this.#pools.reduce((sum, pool) => sum + pool.numCached, 0);
  }

  get numFree(): number {
    return this.#pools.reduce((sum, pool) => sum + pool.numFree, 0);
  }

  /** Blocks of one group that sequences hold. */
  referencedBlocks(group: number): number {
    return this.#pools[group].numReferenced;
  }

  open(): KvSequence {
    return new KvSequence(this.groups.length);
  }

  /**
   * Takes for an empty sequence the longest remembered prefix of `tokenIds[0, limit)` at which every group can resume.
   * @returns its length in tokens, from which computing goes on
   */
  matchPrefix(sequence: KvSequence, tokenIds: Int32Array, limit: number, salt = ''): number {
    invariant(sequence.numBlocks === 0 && sequence.node === NO_NODE, 'only an empty sequence can take a prefix');
    if (!this.enablePrefixCaching) return 0;
    const length = this.#resumableLength(this.#walk(tokenIds, limit, salt));
    const numShared = Math.floor(length / this.blockSize);
    const node = numShared === 0 ? this.#tree.root(salt) : this.#path[numShared - 1];
    this.#share(sequence, length, (g, i) => this.#tree.block(this.#path[i], g));
    sequence.node = node;
    sequence.numPublished = numShared;
    this.#tree.pin(node);
    return length;
  }

  /** Length of the prefix that `matchPrefix` would take now. Takes nothing. */
  prefixLength(tokenIds: Int32Array, limit: number, salt = ''): number {
    if (!this.enablePrefixCaching) return 0;
    const length = this.#resumableLength(this.#walk(tokenIds, limit, salt));
    this.#tree.prune(this.#tree.root(salt)); // asking must leave nothing behind
    return length;
  }

  /**
   * Lets an empty sequence share the first `length` tokens of another one, which must have computed them (n > 1).
   * @returns false when a window has already slid past what it would need
   */
  fork(parent: KvSequence, child: KvSequence, length: number): boolean {
    invariant(child.numBlocks === 0 && child.node === NO_NODE, 'only an empty sequence can be forked into');
    const numBlocks = blocksForTokens(length, this.blockSize);
    for (let g = 0; g < this.groups.length; g++) {
      for (let i = this.#firstNeeded(g, length); i < numBlocks; i++) if (parent.tables[g][i] === NO_BLOCK) return false;
    }
    this.#share(child, length, (g, i) => parent.tables[g][i]);
    if (parent.node === NO_NODE) return true;
    child.numPublished = Math.min(parent.numPublished, Math.floor(length / this.blockSize));
    child.node = parent.node;
    for (let depth = parent.numPublished; depth > child.numPublished; depth--) child.node = this.#tree.parent(child.node);
    this.#tree.pin(child.node);
    return true;
  }

  /**
   * Gives the sequence blocks for its tokens `[0, numTokens)`, of which `numComputed` are in the cache: frees what windows have slid past, takes
   * free blocks, evicts remembered ones. Copies that this asks for wait in `drainCopies`.
   * @returns false, with nothing taken, when some group has too few
   */
  allocate(sequence: KvSequence, numComputed: number, numTokens: number): boolean {
    this.#slide(sequence, numComputed);
    const target = blocksForTokens(numTokens, this.blockSize);
    const missing = target - sequence.numBlocks;
    if (missing > 0) {
      for (const pool of this.#pools) if (pool.numAvailable < missing) return false;
      sequence.reserve(target);
      for (let g = 0; g < this.groups.length; g++) {
        const table = sequence.tables[g];
        for (let i = sequence.numBlocks; i < target; i++) table[i] = this.#takeBlock(g);
      }
      sequence.numBlocks = target;
    }
    if (sequence.copyTokens > 0) this.#copyHead(sequence, numComputed);
    return true;
  }

  /** Blocks that some group lacks before a sequence could hold `numTokens`, advancing by at most `chunk` a step; 0 when it could now. */
  shortage(sequence: KvSequence, numComputed: number, numTokens: number, chunk: number, spare: number): number {
    let worst = 0;
    for (let g = 0; g < this.groups.length; g++) {
      const held = sequence.numBlocks - Math.max(sequence.firstHeld[g], this.#firstNeeded(g, numComputed));
      const wanted = Math.min(
        blocksForTokens(numTokens, this.blockSize) - sequence.numBlocks,
        peakBlocks(this.groups[g], this.blockSize, numTokens, chunk) - held,
      );
      worst = Math.max(worst, wanted + spare - this.#pools[g].numAvailable);
    }
    return worst;
  }

  /** Blocks of the group that has least of them for a sequence of `numTokens`: what it needs and what exists. */
  capacityFor(numTokens: number, chunk: number): { neededBlocks: number; totalBlocks: number; fits: boolean } {
    let answer = { neededBlocks: 0, totalBlocks: 0, fits: true };
    for (let g = 0; g < this.groups.length; g++) {
      const neededBlocks = peakBlocks(this.groups[g], this.blockSize, numTokens, chunk);
      const totalBlocks = this.groups[g].numBlocks;
      if (g === 0 || neededBlocks - totalBlocks > answer.neededBlocks - answer.totalBlocks) {
        answer = { neededBlocks, totalBlocks, fits: neededBlocks <= totalBlocks };
      }
    }
    return answer;
  }

  /** Remembers the full blocks among the computed tokens `[0, numComputed)`. Drafts must be verified before they count as computed. */
  publish(sequence: KvSequence, tokenIds: Int32Array, numComputed: number): void {
    if (sequence.node === NO_NODE) return;
    const numFull = Math.floor(numComputed / this.blockSize);
    while (sequence.numPublished < numFull) this.#publishBlock(sequence, tokenIds);
  }

  /** Gives everything back, remembering what was computed, the tail included. Idempotent. */
  free(sequence: KvSequence, tokenIds: Int32Array, numComputed: number): void {
    this.publish(sequence, tokenIds, numComputed);
    this.#publishTail(sequence, tokenIds, numComputed);
    this.#releaseCopySources(sequence);
    // from the end, so that the tail of a prefix is evicted before its head
    for (let i = sequence.numBlocks - 1; i >= 0; i--) {
      for (let g = 0; g < this.groups.length; g++) this.#releaseEntry(sequence, g, i);
    }
    sequence.numBlocks = 0;
    sequence.firstHeld.fill(0);
    const { node } = sequence;
    sequence.node = NO_NODE;
    sequence.numPublished = 0;
    if (node === NO_NODE) return;
    this.#tree.unpin(node);
    this.#tree.prune(node);
  }

  /** Block copies asked for since the last call, `[count, 4]`, to be made in this order before the step. Returns how many were written. */
  drainCopies(target: { copies: Int32Array }): number {
    const count = this.#numCopies;
    if (target.copies.length < count * COPY_STRIDE) target.copies = new Int32Array(this.#copies.length);
    target.copies.set(this.#copies.subarray(0, count * COPY_STRIDE));
    this.#numCopies = 0;
    return count;
  }

  /** Forgets every prefix that nobody holds. */
  clearCached(): void {
    for (let g = 0; g < this.#pools.length; g++) while (this.#pools[g].numCached > 0) this.#evict(g);
  }

  /** Compares every count with the holders given, who must be all. @throws INTERNAL */
  check(sequences: Iterable<KvSequence>): void {
    const holders = this.#pools.map((pool) => new Int32Array(pool.numBlocks));
    for (const sequence of sequences) {
      for (let g = 0; g < this.groups.length; g++) {
        for (let i = 0; i < sequence.numBlocks; i++) if (sequence.tables[g][i] !== NO_BLOCK) holders[g][sequence.tables[g][i]]++;
        if (sequence.copySources[g] !== NO_BLOCK) holders[g][sequence.copySources[g]]++;
      }
    }
    this.#pools.forEach((pool, g) => {
      pool.check(holders[g]);
    });
    const bound = this.#pools.map(() => 0);
    this.#tree.forEach((node) => {
      const parent = this.#tree.parent(node);
      invariant(parent === NO_NODE || this.#tree.length(parent) === this.blockSize || this.#tree.parent(parent) === NO_NODE, 'a tail has children');
      for (let g = 0; g < this.groups.length; g++) {
        const block = this.#tree.block(node, g);
        if (block === NO_BLOCK) continue;
        bound[g]++;
        invariant(this.#pools[g].node(block) === node, `tree node ${node} and block ${block} disagree`);
      }
    });
    this.#pools.forEach((pool, g) => {
      let remembered = 0;
      for (let block = 0; block < pool.numBlocks; block++) if (pool.node(block) !== NO_NODE) remembered++;
      invariant(remembered === bound[g], 'a block remembers a tree node that is gone');
    });
  }

  /** Follows the tree along the tokens, full blocks into `#path`, then a last node of which only a head may agree. @returns tokens that agree */
  #walk(tokenIds: Int32Array, limit: number, salt: string): number {
    let node = this.#tree.root(salt);
    let length = 0;
    let depth = 0;
    while (length < limit) {
      node = this.#tree.longestChild(node, tokenIds, length, Math.min(this.blockSize, limit - length));
      if (node === NO_NODE) break;
      if (depth === this.#path.length) {
        const longer = new Int32Array(depth * 2);
        longer.set(this.#path);
        this.#path = longer;
      }
      this.#path[depth++] = node;
      length += this.#tree.commonLength;
      if (this.#tree.commonLength < this.blockSize) break;
    }
    return length;
  }

  /** The longest length up to `walked` at which no group lacks a block that the next token reads. */
  #resumableLength(walked: number): number {
    let length = walked;
    for (let settled = false; !settled; ) {
      settled = true;
      for (let g = 0; g < this.groups.length; g++) {
        if (this.groups[g].kind === 'full') continue; // a node of the tree never lacks these
        const first = this.#firstNeeded(g, length);
        let i = blocksForTokens(length, this.blockSize) - 1;
        while (i >= first && this.#tree.block(this.#path[i], g) !== NO_BLOCK) i--;
        if (i < first) continue;
        // block i is gone: only lengths that end before it can still do
        length = i * this.blockSize;
        settled = false;
      }
    }
    return length;
  }

  #firstNeeded(group: number, numComputed: number): number {
    return Math.floor(firstKeyIndex(this.groups[group], numComputed) / this.blockSize);
  }

  /** References the blocks of `[0, length)` that the next token reads; the last one, if cut, is held as a source of a copy. */
  #share(sequence: KvSequence, length: number, blockAt: (group: number, index: number) => number): void {
    const numShared = Math.floor(length / this.blockSize);
    sequence.reserve(numShared + 1);
    sequence.copyTokens = length % this.blockSize;
    for (let g = 0; g < this.groups.length; g++) {
      const first = this.#firstNeeded(g, length);
      for (let i = 0; i < numShared; i++) {
        const block = i < first ? NO_BLOCK : blockAt(g, i);
        sequence.tables[g][i] = block;
        if (block !== NO_BLOCK) this.#pools[g].hold(block);
      }
      sequence.firstHeld[g] = Math.min(first, numShared);
      if (sequence.copyTokens === 0) continue;
      sequence.copySources[g] = blockAt(g, numShared);
      this.#pools[g].hold(sequence.copySources[g]);
    }
    sequence.numBlocks = numShared;
  }

  #copyHead(sequence: KvSequence, numComputed: number): void {
    const index = Math.floor(numComputed / this.blockSize);
    for (let g = 0; g < this.groups.length; g++) {
      const at = this.#numCopies++ * COPY_STRIDE;
      if (at === this.#copies.length) {
        const larger = new Int32Array(at * 2);
        larger.set(this.#copies);
        this.#copies = larger;
      }
      this.#copies[at] = g;
      this.#copies[at + 1] = sequence.copySources[g];
      this.#copies[at + 2] = sequence.tables[g][index];
      this.#copies[at + 3] = sequence.copyTokens;
    }
    this.#releaseCopySources(sequence);
  }

  /** A released source may be taken at once by someone else: copies come before all writes of a step, in the order asked for. */
  #releaseCopySources(sequence: KvSequence): void {
    if (sequence.copyTokens === 0) return;
    for (let g = 0; g < this.groups.length; g++) {
      this.#pools[g].release(sequence.copySources[g]);
      sequence.copySources[g] = NO_BLOCK;
    }
    sequence.copyTokens = 0;
  }

  #slide(sequence: KvSequence, numComputed: number): void {
    for (let g = 0; g < this.groups.length; g++) {
      if (this.groups[g].kind === 'full') continue;
      const first = Math.min(this.#firstNeeded(g, numComputed), sequence.numBlocks);
      while (sequence.firstHeld[g] < first) this.#releaseEntry(sequence, g, sequence.firstHeld[g]++);
    }
  }

  #releaseEntry(sequence: KvSequence, group: number, index: number): void {
    const table = sequence.tables[group];
    if (table[index] !== NO_BLOCK) this.#pools[group].release(table[index]);
    table[index] = NO_BLOCK;
  }

  #takeBlock(group: number): number {
    const pool = this.#pools[group];
    if (pool.numFree === 0) this.#evict(group);
    const block = pool.take();
    invariant(block !== NO_BLOCK, `cache group ${group} promised a block that it does not have`);
    return block;
  }

  /**
   * Frees the block of a group that was used longest ago. In a full group that is always a leaf of the tree: whoever holds a node holds its
   * ancestors, and `free` lets go of tails first. A window group may lose a block in the middle; the prefix then resumes only beside the gap.
   */
  #evict(group: number): void {
    const block = this.#pools[group].leastRecentlyUsed();
    invariant(block !== NO_BLOCK, `cache group ${group} has nothing to evict`);
    const node = this.#pools[group].node(block);
    if (this.groups[group].kind === 'full') {
      invariant(!this.#tree.hasChildren(node), `tree node ${node} would be evicted before its children`);
      for (let g = 0; g < this.groups.length; g++) this.#forget(node, g);
    } else this.#forget(node, group);
    this.#tree.prune(node);
  }

  #forget(node: number, group: number): void {
    const block = this.#tree.block(node, group);
    if (block === NO_BLOCK) return;
    this.#pools[group].unbind(block);
    this.#tree.setBlock(node, group, NO_BLOCK);
  }

  /** Moves the next block of the sequence into the tree, or, when an equal one is there, the sequence onto that one. */
  #publishBlock(sequence: KvSequence, tokenIds: Int32Array): void {
    const index = sequence.numPublished;
    const start = index * this.blockSize;
    const found = this.#tree.longestChild(sequence.node, tokenIds, start, this.blockSize);
    const isKnown = found !== NO_NODE && this.#tree.commonLength === this.blockSize;
    const node = isKnown ? found : this.#tree.insert(sequence.node, tokenIds, start, this.blockSize);
    for (let g = 0; g < this.groups.length; g++) {
      const own = sequence.tables[g][index];
      if (own === NO_BLOCK) continue;
      const known = this.#tree.block(node, g);
      if (known === NO_BLOCK) this.#bind(node, g, own);
      else if (known !== own) {
        // equal tokens have equal KV to the bit, so the duplicate can go
        this.#pools[g].hold(known);
        this.#pools[g].release(own);
        sequence.tables[g][index] = known;
      }
    }
    this.#tree.pin(node);
    this.#tree.unpin(sequence.node);
    sequence.node = node;
    sequence.numPublished++;
  }

  #publishTail(sequence: KvSequence, tokenIds: Int32Array, numComputed: number): void {
    const count = numComputed % this.blockSize;
    const index = Math.floor(numComputed / this.blockSize);
    if (sequence.node === NO_NODE || count === 0 || sequence.numPublished !== index || sequence.copyTokens > 0 || index >= sequence.numBlocks) return;
    this.#tree.longestChild(sequence.node, tokenIds, index * this.blockSize, count);
    if (this.#tree.commonLength === count) return;
    const node = this.#tree.insert(sequence.node, tokenIds, index * this.blockSize, count);
    for (let g = 0; g < this.groups.length; g++) this.#bind(node, g, sequence.tables[g][index]);
  }

  #bind(node: number, group: number, block: number): void {
    this.#pools[group].bind(block, node);
    this.#tree.setBlock(node, group, block);
  }
}
