/**
 * Blocks and the tree that remembers what lies in them: matching, publishing, forgetting. `KvCache` decides for sequences; what belongs to no sequence is
 * here.
 *
 * Eviction goes leaf first: in a group that keeps all of a text (`full`, `latent`) a block may go only while its node has no children. Whoever holds a node
 * holds its ancestors, so what hangs below a cached block is cached too, and every cached block can be had, from the ends inwards. A window group may lose a
 * block anywhere; the prefix then resumes only beside the gap. In a state group a node has a block where the state behind its last token is remembered: a
 * prefix resumes only behind such a node.
 */
import { invariant } from '../base/errors.ts';
import { BlockPool, NO_BLOCK, NO_NODE } from './block-pool.ts';
import type { EvictionPolicy, PrefixUse } from './eviction/policy.ts';
import { blocksForTokens, firstKeyIndex, isState, type KvGroup, keepsAll } from './layout.ts';
import { RadixTree } from './radix-tree.ts';

export type PooledGroup = KvGroup & { readonly numBlocks: number };

/** Told of what happens to nodes of whole blocks of tokens. */
export interface PrefixListener {
  /** A block of it has been computed and is remembered now. */
  onPublished(node: number): void;
  /** A block of it is about to be forgotten; nothing writes there before the next step is handed over. */
  onEvicted(node: number): void;
  /** The number stands for other tokens from now on. */
  onNewNode(node: number): void;
}

export class PrefixMemory {
  readonly blockSize: number;
  readonly groups: readonly PooledGroup[];
  readonly pools: readonly BlockPool[];
  readonly tree: RadixTree;
  listener: PrefixListener | null = null;
  readonly #policy: EvictionPolicy;
  readonly #use = { nowMs: 0, tick: 0, uses: 0, priority: 0 } satisfies { -readonly [K in keyof PrefixUse]: PrefixUse[K] };
  /** Nodes of the path that the last walk followed. */
  #path = new Int32Array(64);
  /** Blocks evicted so far. */
  numEvicted = 0;

  constructor(groups: readonly PooledGroup[], blockSize: number, policy: EvictionPolicy) {
    this.blockSize = blockSize;
    this.groups = groups;
    this.pools = groups.map((group) => new BlockPool(group.numBlocks));
    this.tree = new RadixTree(blockSize, groups.length, 64 + Math.max(...groups.map(({ numBlocks }) => numBlocks)));
    this.#policy = policy;
  }

  set nowMs(nowMs: number) {
    this.#use.nowMs = nowMs;
  }

  /** The root of a namespace, made when first asked for. */
  root(namespace: string): number {
    const known = this.tree.findRoot(namespace);
    if (known !== NO_NODE) return known;
    const root = this.tree.root(namespace);
    this.listener?.onNewNode(root);
    return root;
  }

  /** Node of block `index` on the path of the last walk. */
  pathNode(index: number): number {
    return this.#path[index];
  }

  /** Follows the tree along the tokens: full blocks, then a last node of which only a head may agree. @returns tokens that agree */
  walk(tokenIds: Int32Array, limit: number, namespace: string): number {
    const { tree, blockSize } = this;
    let node = tree.findRoot(namespace);
    let length = 0;
    for (let depth = 0; node !== NO_NODE && length < limit; depth++) {
      node = tree.longestChild(node, tokenIds, length, Math.min(blockSize, limit - length));
      if (node === NO_NODE) break;
      if (depth === this.#path.length) {
        const longer = new Int32Array(depth * 2);
        longer.set(this.#path);
        this.#path = longer;
      }
      this.#path[depth] = node;
      length += tree.commonLength;
      if (tree.commonLength < blockSize) break;
    }
    return length;
  }

  /** The longest length up to what the last walk found at which no group lacks a block that the next token reads. */
  resumableLength(walked: number): number {
    const isWhole = (i: number, length: number) => this.tree.length(this.#path[i]) === length - i * this.blockSize;
    return this.longestResumable(walked, (g, i) => this.tree.block(this.#path[i], g) !== NO_BLOCK, isWhole);
  }

  /**
   * The longest length up to `length` at which every window group has what the next token reads, and every state group the state; groups that keep all are
   * known to have it. `isWhole`: whether node `index` ends with token `length - 1`.
   */
  longestResumable(
    length: number,
    has: (group: number, index: number) => boolean,
    isWhole: (index: number, length: number) => boolean = (index, end) => end === (index + 1) * this.blockSize,
  ): number {
    let longest = length;
    for (let settled = false; !settled; ) {
      settled = true;
      for (let g = 0; g < this.groups.length; g++) {
        if (isState(this.groups[g])) {
          const last = blocksForTokens(longest, this.blockSize) - 1;
          if (longest === 0 || (isWhole(last, longest) && has(g, last))) continue;
          longest = last * this.blockSize;
          settled = false;
        }
        if (this.groups[g].kind !== 'window') continue;
        const first = this.firstNeeded(g, longest);
        let i = blocksForTokens(longest, this.blockSize) - 1;
        while (i >= first && has(g, i)) i--;
        if (i < first) continue;
        // block i is gone: only lengths that end before it can still do
        longest = i * this.blockSize;
        settled = false;
      }
    }
    return longest;
  }

  /** First block of a group that the token after `numComputed` others reads. */
  firstNeeded(group: number, numComputed: number): number {
    return Math.floor(firstKeyIndex(this.groups[group], numComputed) / this.blockSize);
  }

  /** Notes a use of a node and its ancestors: `numBlocks` of them. */
  touch(node: number, numBlocks: number, priority: number, isNewRequest: boolean): void {
    const { tree } = this;
    this.#use.tick++;
    for (let at = node, i = 0; i < numBlocks; i++, at = tree.parent(at)) this.#touchOne(at, priority, isNewRequest);
  }

  /** Remembers what holds `tokenIds[start, start + count)` below a node. @returns the node, a known or a new one */
  remember(parent: number, tokenIds: Int32Array, start: number, count: number, priority: number): number {
    const { tree } = this;
    const found = tree.longestChild(parent, tokenIds, start, count);
    if (found !== NO_NODE && tree.commonLength === count && tree.length(found) === count) return found;
    const node = tree.insert(parent, tokenIds, start, count);
    this.listener?.onNewNode(node);
    this.#use.tick++;
    this.#touchOne(node, priority, true);
    return node;
  }

  bind(node: number, group: number, block: number): void {
    this.pools[group].bind(block, node);
    this.tree.setBlock(node, group, block);
  }

  /** Lets go of a block; it stays remembered if the tree knows it. */
  release(group: number, block: number): void {
    const pool = this.pools[group];
    if (!pool.release(block)) return;
    const node = pool.node(block);
    if (!keepsAll(this.groups[group]) || !this.tree.hasChildren(node)) pool.offer(block, this.tree.evictionKey(node));
  }

  /** A free block with one holder; another prefix makes room if need be. The caller has asked `numAvailable`. */
  take(group: number): number {
    const pool = this.pools[group];
    if (pool.numFree === 0) this.evict(group);
    const block = pool.take();
    invariant(block !== NO_BLOCK, `cache group ${group} promised a block that it does not have`);
    return block;
  }

  /** Forgets what the policy thinks least of in a group. */
  evict(group: number): void {
    const pool = this.pools[group];
    const block = pool.nextToEvict;
    invariant(block !== NO_BLOCK, `cache group ${group} has nothing to evict`);
    const node = pool.node(block);
    this.#policy.onEvicted?.(pool.nextKey);
    const isWhole = keepsAll(this.groups[group]);
    if (this.tree.length(node) === this.blockSize) this.listener?.onEvicted(node);
    if (isWhole) {
      invariant(!this.tree.hasChildren(node), `tree node ${node} would be evicted before its children`);
      for (let g = 0; g < this.groups.length; g++) this.#forget(node, g);
    } else this.#forget(node, group);
    this.numEvicted++;
    this.prune(node);
  }

  /** Removes nodes that nothing depends on; a parent that is left without children may be evicted next. */
  prune(node: number): void {
    const left = this.tree.prune(node);
    if (left === NO_NODE || this.tree.hasChildren(left)) return;
    for (let g = 0; g < this.groups.length; g++) {
      const block = this.tree.block(left, g);
      if (block !== NO_BLOCK && this.pools[g].isCached(block)) this.pools[g].offer(block, this.tree.evictionKey(left));
    }
  }

  /** Forgets what the policy keeps no longer, whether or not anybody needs the room. */
  expire(nowMs: number): void {
    const expired = this.#policy.expiredKey?.(nowMs);
    if (expired === undefined) return;
    for (let g = 0; g < this.pools.length; g++) while (this.pools[g].nextKey <= expired) this.evict(g);
  }

  #touchOne(node: number, priority: number, isNewRequest: boolean): void {
    const { tree } = this;
    const use = this.#use;
    if (isNewRequest) tree.countUse(node);
    use.uses = tree.uses(node);
    use.priority = priority;
    tree.setEvictionKey(node, Math.max(tree.evictionKey(node), this.#policy.key(use)));
  }

  #forget(node: number, group: number): void {
    const block = this.tree.block(node, group);
    if (block === NO_BLOCK) return;
    this.pools[group].unbind(block);
    this.tree.setBlock(node, group, NO_BLOCK);
  }
}
