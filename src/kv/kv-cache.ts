/**
 * The one door to KV memory: who owns which block. Integers only; the bytes are the backend's.
 *
 * Life of a sequence: `open` -> `matchPrefix` (or `fork`) -> `allocate` before each step -> `publish` after it -> `free`.
 * A full block that has been computed enters the prefix tree; a later prompt shares it by reference. A match that ends inside a block is used to
 * the token by copying the head of that block into one of the newcomer's own. What tiers beyond the device hold is in `offload`.
 */
import { invariant } from '../base/errors.ts';
import { BlockCopies } from './block-copies.ts';
import { NO_BLOCK, NO_NODE } from './block-pool.ts';
import { checkBlocks } from './check-blocks.ts';
import { evictionPolicies } from './eviction/index.ts';
import type { EvictionPolicy } from './eviction/policy.ts';
import { blocksForTokens, isState } from './layout.ts';
import { Offload, type TierDirectory } from './offload.ts';
import { type PooledGroup, PrefixMemory } from './prefix-memory.ts';
import { allocateRetained, releaseOriginals } from './retained-blocks.ts';
import { blocksHeld, chunkEnd, Retention, type RetentionPolicy } from './retention.ts';
import { type Capacity, capacityOf, shortageOf } from './room.ts';
import { KvSequence } from './sequence.ts';
import { StateSlots } from './state-slots.ts';

export interface KvCacheOptions {
  readonly groups: readonly PooledGroup[];
  /** Tokens in a block. */
  readonly blockSize: number;
  readonly enablePrefixCaching: boolean;
  /** Which prefix is forgotten first. Default: the one used longest ago. */
  readonly eviction?: EvictionPolicy;
  /** What tiers beyond the device hold; without prefix caching they are not used, nor for models with states. */
  readonly tiers?: TierDirectory | null;
  /** Tokens between the states that are remembered of a text; a whole number of blocks. Default: about 512. */
  readonly stateInterval?: number;
}

export class KvCache {
  readonly blockSize: number;
  readonly groups: readonly PooledGroup[];
  readonly enablePrefixCaching: boolean;
  /** Blocks going to and coming from the tiers; null where there are none. */
  readonly offload: Offload | null;
  readonly #memory: PrefixMemory;
  readonly #copies = new BlockCopies();
  readonly #states: StateSlots;
  readonly #guests = new Set<KvSequence>();
  /** Tokens that prefix hits copied instead of computing them: heads of blocks. */
  numCopiedTokens = 0;

  constructor(options: KvCacheOptions) {
    this.blockSize = options.blockSize;
    this.groups = options.groups;
    this.enablePrefixCaching = options.enablePrefixCaching;
    this.#memory = new PrefixMemory(options.groups, options.blockSize, options.eviction ?? evictionPolicies.lru());
    const { tiers = null, blockSize, stateInterval = Math.max(1, Math.floor(512 / blockSize)) * blockSize } = options;
    this.#states = new StateSlots(this.#memory, this.#copies, stateInterval);
    this.offload = tiers === null || !options.enablePrefixCaching || this.#states.groups.length > 0 ? null : new Offload(this.#memory, tiers);
    this.#memory.listener = this.offload;
  }

  /** Block counts over all groups. */
  get numBlocks(): number {
    return this.#memory.pools.reduce((sum, pool) => sum + pool.numBlocks, 0);
  }

  get numReferenced(): number {
    return this.#memory.pools.reduce((sum, pool) => sum + pool.numReferenced, 0);
  }

  get numCached(): number {
    return this.#memory.pools.reduce((sum, pool) => sum + pool.numCached, 0);
  }

  get numFree(): number {
    return this.#memory.pools.reduce((sum, pool) => sum + pool.numFree, 0);
  }

  /** Blocks that were forgotten to make room, or because their time was up. */
  get numEvicted(): number {
    return this.#memory.numEvicted;
  }

  /** Nodes of the prefix tree. */
  get numNodes(): number {
    return this.#memory.tree.numNodes;
  }

  /** Copies asked for and not drained yet. */
  get numPendingCopies(): number {
    return this.#copies.count;
  }

  /** Blocks of one group that sequences hold. */
  referencedBlocks(group: number): number {
    return this.#memory.pools[group].numReferenced;
  }

  /** Tells the time to the eviction policy, and forgets what has had its time. */
  tick(nowMs: number): void {
    this.#memory.nowMs = nowMs;
    this.#memory.expire(nowMs);
  }

  /**
   * @param priority of the request, for the eviction policy; lower is more urgent
   * @param policy of a sequence that does not keep all of its tokens: it shares with nobody, and nothing of it is remembered
   */
  open(priority = 0, policy: RetentionPolicy | null = null): KvSequence {
    return new KvSequence(this.groups.length, priority, policy === null ? null : new Retention(policy, this.groups.length, this.blockSize));
  }

  /** Tokens that one step may compute of a sequence that is computed up to `first`. */
  chunkRoom({ retention }: KvSequence, first: number): number {
    if (retention !== null) return chunkEnd(retention.policy, first, this.blockSize) - first;
    return this.enablePrefixCaching ? this.#states.chunkRoom(first) : Infinity;
  }

  /** Blocks that the table of a sequence may come to when it has `numTokens`; `sequence` is null before it has begun. */
  blocksFor(policy: RetentionPolicy | null, sequence: KvSequence | null, numTokens: number): number {
    if (policy === null) return blocksForTokens(numTokens, this.blockSize);
    return blocksHeld(policy, sequence?.retention ?? null, numTokens, this.blockSize);
  }

  /**
   * Takes for an empty sequence the longest remembered prefix of `tokenIds[0, limit)` at which every group can resume.
   * @returns its length in tokens, from which computing goes on
   */
  matchPrefix(sequence: KvSequence, tokenIds: Int32Array, limit: number, namespace = ''): number {
    invariant(sequence.numBlocks === 0 && sequence.node === NO_NODE && sequence.retention === null, 'only an empty sequence can take a prefix');
    if (!this.enablePrefixCaching) return 0;
    const { tree } = this.#memory;
    const length = this.#memory.resumableLength(this.#memory.walk(tokenIds, limit, namespace));
    const numShared = Math.floor(length / this.blockSize);
    const node = numShared === 0 ? this.#memory.root(namespace) : this.#memory.pathNode(numShared - 1);
    this.#share(sequence, length, (g, i) => tree.block(this.#memory.pathNode(i), g));
    if (length > 0) this.#states.share(sequence, this.#memory.pathNode(blocksForTokens(length, this.blockSize) - 1));
    sequence.node = node;
    sequence.numPublished = numShared;
    tree.pin(node);
    if (length % this.blockSize > 0) this.#memory.touch(this.#memory.pathNode(numShared), 1, sequence.priority, true);
    this.#memory.touch(node, numShared, sequence.priority, true);
    return length;
  }

  /** Length of the prefix that `matchPrefix` would take now. Takes nothing. */
  prefixLength(tokenIds: Int32Array, limit: number, namespace = ''): number {
    if (!this.enablePrefixCaching) return 0;
    return this.#memory.resumableLength(this.#memory.walk(tokenIds, limit, namespace));
  }

  /**
   * Lets an empty sequence share the first `length` tokens of another one, which must have computed them (n > 1).
   * @returns false when a window has already slid past what it would need, or a state is that of a longer text
   */
  fork(parent: KvSequence, child: KvSequence, length: number): boolean {
    invariant(child.numBlocks === 0 && child.node === NO_NODE, 'only an empty sequence can be forked into');
    invariant(parent.retention === null && child.retention === null, 'who does not keep all of its tokens shares with nobody');
    if (length > 0 && this.#states.groups.length > 0) return false;
    const numBlocks = blocksForTokens(length, this.blockSize);
    for (let g = 0; g < this.groups.length; g++) {
      for (let i = this.#memory.firstNeeded(g, length); i < numBlocks; i++) if (parent.tables[g][i] === NO_BLOCK) return false;
    }
    this.#share(child, length, (g, i) => parent.tables[g][i]);
    if (parent.node === NO_NODE) return true;
    const { tree } = this.#memory;
    child.numPublished = Math.min(parent.numPublished, Math.floor(length / this.blockSize));
    child.node = parent.node;
    for (let depth = parent.numPublished; depth > child.numPublished; depth--) child.node = tree.parent(child.node);
    tree.pin(child.node);
    return true;
  }

  /**
   * Gives the sequence blocks for its tokens `[0, numTokens)`, of which `numComputed` are in the cache: frees what windows have slid past, takes
   * free blocks, evicts remembered ones. Copies that this asks for wait in `drainCopies`.
   * @param first index of the first token that the step computes, where steps in flight compute others before it
   * @returns false, with nothing taken, when some group has too few
   */
  allocate(sequence: KvSequence, numComputed: number, numTokens: number, first = numComputed): boolean {
    if (sequence.retention !== null) return allocateRetained(this.#memory, sequence, sequence.retention, first, numTokens);
    this.#slide(sequence, numComputed);
    const target = blocksForTokens(numTokens, this.blockSize);
    const missing = target - sequence.numBlocks;
    if (missing > 0) {
      for (let g = 0; g < this.groups.length; g++) if (!isState(this.groups[g]) && this.#memory.pools[g].numAvailable < missing) return false;
    }
    if (!this.#states.canHold(sequence)) return false;
    if (missing > 0) {
      sequence.reserve(target);
      for (let g = 0; g < this.groups.length; g++) {
        const table = sequence.tables[g];
        for (let i = sequence.numBlocks; i < target; i++) table[i] = isState(this.groups[g]) ? NO_BLOCK : this.#memory.take(g);
      }
      sequence.numBlocks = target;
    }
    this.#states.allocate(sequence, first);
    if (sequence.copyTokens > 0) this.#copyHead(sequence, numComputed);
    return true;
  }

  /** Blocks that some group lacks before a sequence could hold `numTokens`, advancing by at most `chunk` a step; 0 when it could now. */
  shortage(sequence: KvSequence, numComputed: number, numTokens: number, chunk: number, spare: number): number {
    return shortageOf(this.#memory, sequence, numComputed, numTokens, chunk, spare);
  }

  /**
   * Blocks of the group that has least of them for `numRows` sequences of `numTokens`, which share the first `numShared` where nothing slides: what they
   * need and what exists.
   */
  capacityFor(numTokens: number, chunk: number, numRows = 1, numShared = 0, policy: RetentionPolicy | null = null): Capacity {
    return capacityOf(this.#memory, { numTokens, chunk, numRows, numShared, policy });
  }

  /** Remembers the full blocks among the computed tokens `[0, numComputed)`. Drafts must be verified before they count as computed. */
  publish(sequence: KvSequence, tokenIds: Int32Array, numComputed: number): void {
    if (sequence.node === NO_NODE) return;
    const numFull = Math.floor(numComputed / this.blockSize);
    while (sequence.numPublished < numFull) this.#publishBlock(sequence, tokenIds);
    this.#states.publish(sequence, numComputed);
  }

  /**
   * Gives everything back, remembering what was computed, the tail included. Idempotent.
   * @param isSettled false while a step in flight computes more of it: its states will not be those behind `numComputed`
   */
  free(sequence: KvSequence, tokenIds: Int32Array, numComputed: number, isSettled = true): void {
    this.publish(sequence, tokenIds, numComputed);
    const last = this.#publishTail(sequence, tokenIds, numComputed, isSettled);
    if (last !== NO_NODE && isSettled) this.#states.remember(sequence, last);
    this.#states.free(sequence);
    this.#releaseCopySources(sequence);
    this.#guests.delete(sequence);
    const { node } = sequence;
    if (node !== NO_NODE) this.#memory.touch(node, sequence.numPublished, sequence.priority, false);
    // from the end: a block may be evicted once nothing is left below it
    for (let i = sequence.numBlocks - 1; i >= 0; i--) {
      for (let g = 0; g < this.groups.length; g++) this.#releaseEntry(sequence, g, i);
    }
    releaseOriginals(this.#memory, sequence);
    sequence.numBlocks = 0;
    sequence.firstHeld.fill(0);
    sequence.node = NO_NODE;
    sequence.numPublished = 0;
    if (node === NO_NODE) return;
    this.#memory.tree.unpin(node);
    this.#memory.prune(node);
  }

  /** Block copies asked for since the last call, `[count, 4]`, to be made in this order before the step. Returns how many were written. */
  drainCopies(target: { copies: Int32Array }): number {
    return this.#copies.drain(target);
  }

  /** Forgets every prefix that nobody holds. */
  clearCached(): void {
    this.#memory.listener = null; // what is thrown away on purpose goes to no tier
    for (let g = 0; g < this.groups.length; g++) while (this.#memory.pools[g].numCached > 0) this.#memory.evict(g);
    this.#memory.listener = this.offload;
  }

  /**
   * Tokens from the start at which a sequence that has just taken its prefix could resume if tiers gave what they hold; `numComputed` when they add
   * nothing. What is to be loaded waits in `offload` until `beginLoad`.
   */
  loadableLength(sequence: KvSequence, tokenIds: Int32Array, numComputed: number, limit: number): number {
    if (this.offload === null || sequence.node === NO_NODE) return numComputed;
    const numBlocks = this.offload.plan(sequence, tokenIds, limit);
    return Math.max(numComputed, numBlocks * this.blockSize);
  }

  /**
   * Takes the blocks for what `loadableLength` found. They belong to the sequence, and hold nothing until `endLoad`.
   * @returns false, with nothing taken, when some group has too few
   */
  beginLoad(sequence: KvSequence, length: number): boolean {
    const target = length / this.blockSize;
    const firsts = this.groups.map((_, g) => Math.max(sequence.numBlocks, Math.min(target, this.#memory.firstNeeded(g, length))));
    if (firsts.some((first, g) => this.#memory.pools[g].numAvailable < target - first)) return false;
    sequence.reserve(target);
    for (let g = 0; g < this.groups.length; g++) {
      const table = sequence.tables[g];
      for (let i = sequence.numBlocks; i < target; i++) table[i] = i < firsts[g] ? NO_BLOCK : this.#memory.take(g);
    }
    sequence.numBlocks = target;
    return true;
  }

  /**
   * The first `numLoaded` blocks of the table hold what they should now, none behind them. Keeps what can be resumed at, gives the rest back, remembers it.
   * @returns tokens from the start that are computed now; `numComputed` as before where the load added nothing
   */
  endLoad(sequence: KvSequence, tokenIds: Int32Array, numComputed: number, numLoaded: number): number {
    const { blockSize } = this;
    const length = this.#memory.longestResumable(numLoaded * blockSize, (g, i) => sequence.tables[g][i] !== NO_BLOCK);
    const kept = length > numComputed ? length / blockSize : Math.floor(numComputed / blockSize);
    for (let i = sequence.numBlocks - 1; i >= kept; i--) for (let g = 0; g < this.groups.length; g++) this.#releaseEntry(sequence, g, i);
    sequence.numBlocks = kept;
    for (let g = 0; g < this.groups.length; g++) sequence.firstHeld[g] = Math.min(sequence.firstHeld[g], kept);
    if (length <= numComputed) return numComputed;
    this.#releaseCopySources(sequence);
    this.publish(sequence, tokenIds, length);
    return length;
  }

  /** A sequence that belongs to no request, such as one whose blocks are being copied out; `free` ends it. */
  openGuest(): KvSequence {
    const sequence = this.open();
    this.#guests.add(sequence);
    return sequence;
  }

  /** Compares every count with the holders given, who must be all, guests aside. @throws INTERNAL */
  check(sequences: Iterable<KvSequence>): void {
    checkBlocks(this.#memory, [...sequences, ...this.#guests]);
  }

  /** References the blocks of `[0, length)` that the next token reads; the last one, if cut, is held as a source of a copy. */
  #share(sequence: KvSequence, length: number, blockAt: (group: number, index: number) => number): void {
    const numShared = Math.floor(length / this.blockSize);
    sequence.reserve(numShared + 1);
    sequence.copyTokens = length % this.blockSize;
    for (let g = 0; g < this.groups.length; g++) {
      const pool = this.#memory.pools[g];
      const first = this.#memory.firstNeeded(g, length);
      for (let i = 0; i < numShared; i++) {
        const block = i < first ? NO_BLOCK : blockAt(g, i);
        sequence.tables[g][i] = block;
        if (block !== NO_BLOCK) pool.hold(block);
      }
      sequence.firstHeld[g] = Math.min(first, numShared);
      if (sequence.copyTokens === 0 || isState(this.groups[g])) continue;
      sequence.copySources[g] = blockAt(g, numShared);
      pool.hold(sequence.copySources[g]);
    }
    sequence.numBlocks = numShared;
  }

  #copyHead(sequence: KvSequence, numComputed: number): void {
    const index = Math.floor(numComputed / this.blockSize);
    this.numCopiedTokens += sequence.copyTokens;
    for (let g = 0; g < this.groups.length; g++) {
      if (!isState(this.groups[g])) this.#copies.add(g, sequence.copySources[g], sequence.tables[g][index], sequence.copyTokens);
    }
    this.#releaseCopySources(sequence);
  }

  /** A released source may be taken at once by someone else: copies come before all writes of a step, in the order asked for. */
  #releaseCopySources(sequence: KvSequence): void {
    if (sequence.copyTokens === 0) return;
    for (let g = 0; g < this.groups.length; g++) {
      if (sequence.copySources[g] !== NO_BLOCK) this.#memory.release(g, sequence.copySources[g]);
      sequence.copySources[g] = NO_BLOCK;
    }
    sequence.copyTokens = 0;
  }

  #slide(sequence: KvSequence, numComputed: number): void {
    for (let g = 0; g < this.groups.length; g++) {
      if (this.groups[g].kind !== 'window') continue;
      const first = Math.min(this.#memory.firstNeeded(g, numComputed), sequence.numBlocks);
      while (sequence.firstHeld[g] < first) this.#releaseEntry(sequence, g, sequence.firstHeld[g]++);
    }
  }

  #releaseEntry(sequence: KvSequence, group: number, index: number): void {
    const table = sequence.tables[group];
    if (table[index] !== NO_BLOCK) this.#memory.release(group, table[index]);
    table[index] = NO_BLOCK;
  }

  /** Moves the next block of the sequence into the tree, or, when an equal one is there, the sequence onto that one. */
  #publishBlock(sequence: KvSequence, tokenIds: Int32Array): void {
    const memory = this.#memory;
    const index = sequence.numPublished;
    const node = memory.remember(sequence.node, tokenIds, index * this.blockSize, this.blockSize, sequence.priority);
    let isNews = false;
    for (let g = 0; g < this.groups.length; g++) {
      const own = sequence.tables[g][index];
      if (own === NO_BLOCK) continue;
      const known = memory.tree.block(node, g);
      if (known === NO_BLOCK) {
        memory.bind(node, g, own);
        isNews = true;
      } else if (known !== own) {
        // equal tokens have equal KV to the bit, so the duplicate can go
        memory.pools[g].hold(known);
        memory.release(g, own);
        sequence.tables[g][index] = known;
      }
    }
    memory.tree.pin(node);
    memory.tree.unpin(sequence.node);
    sequence.node = node;
    sequence.numPublished++;
    if (isNews) memory.listener?.onPublished(node);
  }

  /** @returns the node that ends with token `numComputed - 1`, or NO_NODE */
  #publishTail(sequence: KvSequence, tokenIds: Int32Array, numComputed: number, isSettled: boolean): number {
    const count = numComputed % this.blockSize;
    const index = Math.floor(numComputed / this.blockSize);
    if (sequence.node === NO_NODE || sequence.numPublished !== index || sequence.copyTokens > 0) return NO_NODE;
    if (count === 0) return index === 0 ? NO_NODE : sequence.node;
    if (index >= sequence.numBlocks) return NO_NODE;
    const { tree } = this.#memory;
    const found = tree.longestChild(sequence.node, tokenIds, index * this.blockSize, count);
    if (tree.commonLength === count) return tree.length(found) === count ? found : NO_NODE;
    // a node without any block would never go
    if (!sequence.tables.some((table) => table[index] !== NO_BLOCK) && !(isSettled && sequence.states.some((block) => block !== NO_BLOCK)))
      return NO_NODE;
    const node = this.#memory.remember(sequence.node, tokenIds, index * this.blockSize, count, sequence.priority);
    for (let g = 0; g < this.groups.length; g++) {
      if (sequence.tables[g][index] !== NO_BLOCK) this.#memory.bind(node, g, sequence.tables[g][index]);
    }
    return node;
  }
}
