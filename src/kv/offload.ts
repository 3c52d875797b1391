/**
 * What goes to tiers beyond the device and what comes back, as integers and names: which blocks to read out before the next step, which to ask for when a
 * request starts. Moving bytes is the engine's. Whole blocks only; a prefix loaded back resumes at a whole number of them.
 */
import { invariant } from '../base/errors.ts';
import { BlockKeys, keyText } from './block-keys.ts';
import { NO_BLOCK } from './block-pool.ts';
import type { PrefixListener, PrefixMemory } from './prefix-memory.ts';
import type { KvSequence } from './sequence.ts';

/** What the tiers hold, by name. Asked while a step is made, so it answers from memory. */
export interface TierDirectory {
  /** Names the class in which bytes of KV are equal: model, layout, number type, instruction set. */
  readonly classDigest: string;
  /** Bit g: the bytes of group g's block are there. 0: nothing is. */
  find(key: string): number;
  /** Whether a tier would keep those groups of a block. */
  wants(key: string, groups: number, isEvicted: boolean): boolean;
  /** Whether blocks are stored as soon as they are computed (to outlive the process), and whether when they are evicted. */
  readonly storesPublished: boolean;
  readonly storesEvicted: boolean;
}

/** A block of tokens to read out: its blocks in each group of which bit g of `groups` is set. */
export interface BlockStore {
  readonly key: string;
  readonly groups: number;
  /** `[numBlocks, 2]`: group, block. */
  readonly blocks: Int32Array;
  /** Evicted from the device, rather than just computed. */
  readonly isEvicted: boolean;
}

/** A block of tokens to fill: as a store, but the groups are those wanted, and the tier may hold more. */
export type BlockLoad = Omit<BlockStore, 'isEvicted'>;

/** Blocks that one step may have read out; more is not kept: a tier is a cache and must not hold up steps. */
const MAX_STORES = 1024;

export class Offload implements PrefixListener {
  readonly #memory: PrefixMemory;
  readonly #tiers: TierDirectory;
  readonly #keys: BlockKeys;
  #stores: BlockStore[] = [];
  /** Names and groups of the blocks that the last `plan` found, first block and count. */
  readonly #planned: { key: string; groups: number }[] = [];
  #plannedFrom = 0;
  /** Whether blocks that are evicted are worth keeping in a tier: computing them again would take longer. Set by the scheduler. */
  keepsEvicted = true;
  /** Blocks that were not stored because too many were waiting. */
  numDropped = 0;

  constructor(memory: PrefixMemory, tiers: TierDirectory) {
    invariant(memory.groups.length < 31, 'more cache groups than bits');
    this.#memory = memory;
    this.#tiers = tiers;
    this.#keys = new BlockKeys(memory.tree, tiers.classDigest);
  }

  /** Whether blocks that leave the device now go to a tier. */
  get isSwapping(): boolean {
    return this.#tiers.storesEvicted && this.keepsEvicted;
  }

  onNewNode(node: number): void {
    this.#keys.forget(node);
  }

  onPublished(node: number): void {
    if (this.#tiers.storesPublished) this.#store(node, false);
  }

  onEvicted(node: number): void {
    if (this.isSwapping) this.#store(node, true);
  }

  /** Blocks to read out since the last call; they hold what they did until the next step has been handed over. */
  drainStores(): readonly BlockStore[] {
    if (this.#stores.length === 0) return nothing;
    const stores = this.#stores;
    this.#stores = [];
    return stores;
  }

  /** How many blocks a sequence could resume after if tiers gave what they hold; no more than it has already when they add nothing. */
  plan(sequence: KvSequence, tokenIds: Int32Array, limit: number): number {
    const { blockSize, groups } = this.#memory;
    const from = sequence.numPublished;
    this.#planned.length = 0;
    this.#plannedFrom = from;
    let digest = this.#keys.digest(sequence.node);
    const whole = groups.reduce((bits, { kind }, g) => (kind === 'window' ? bits : bits | (1 << g)), 0);
    for (let i = from; (i + 1) * blockSize <= limit; i++) {
      digest = this.#keys.next(digest, tokenIds, i * blockSize);
      const key = keyText(digest);
      const held = this.#tiers.find(key);
      if (held === 0 || (held & whole) !== whole) break;
      this.#planned.push({ key, groups: held });
    }
    const has = (g: number, i: number) => (i < from ? sequence.tables[g][i] !== NO_BLOCK : ((this.#planned[i - from].groups >> g) & 1) === 1);
    return this.#memory.longestResumable((from + this.#planned.length) * blockSize, has) / blockSize;
  }

  /** What to fill for a sequence that has taken blocks for what `plan` found. */
  loadsOf(sequence: KvSequence): BlockLoad[] {
    const loads: BlockLoad[] = [];
    for (let i = this.#plannedFrom; i < sequence.numBlocks; i++) {
      const wanted = this.#memory.groups.flatMap((_, g) => (sequence.tables[g][i] === NO_BLOCK ? [] : [g]));
      const groups = wanted.reduce((bits, g) => bits | (1 << g), 0);
      loads.push({
        key: this.#planned[i - this.#plannedFrom].key,
        groups,
        blocks: Int32Array.from(wanted.flatMap((g) => [g, sequence.tables[g][i]])),
      });
    }
    return loads;
  }

  #store(node: number, isEvicted: boolean): void {
    const { tree, groups } = this.#memory;
    let bits = 0;
    for (let g = 0; g < groups.length; g++) if (tree.block(node, g) !== NO_BLOCK) bits |= 1 << g;
    const key = keyText(this.#keys.digest(node));
    if (!this.#tiers.wants(key, bits, isEvicted)) return;
    if (this.#stores.length === MAX_STORES) {
      this.numDropped++;
      return;
    }
    const held = groups.flatMap((_, g) => (tree.block(node, g) === NO_BLOCK ? [] : [g, tree.block(node, g)]));
    this.#stores.push({ key, groups: bits, blocks: Int32Array.from(held), isEvicted });
  }
}

const nothing: readonly BlockStore[] = [];
