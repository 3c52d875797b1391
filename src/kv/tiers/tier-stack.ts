/** The tiers of one engine, nearest first, as the scheduler asks for them and the engine fills them. */
import type { TierDirectory } from '../offload.ts';
import type { KvTier, StoredBlock, TierStats } from './tier.ts';

export interface TierStackOptions {
  readonly classDigest: string;
  /** Takes what the device evicts. */
  readonly host?: KvTier | null;
  /** Takes what has been computed, to outlive the process. */
  readonly disk?: KvTier | null;
}

export class TierStack implements TierDirectory {
  readonly classDigest: string;
  readonly storesPublished: boolean;
  readonly storesEvicted: boolean;
  readonly #host: KvTier | null;
  readonly #disk: KvTier | null;
  readonly #tiers: readonly KvTier[];

  constructor({ classDigest, host = null, disk = null }: TierStackOptions) {
    this.classDigest = classDigest;
    this.#host = host;
    this.#disk = disk;
    this.storesPublished = disk !== null;
    this.storesEvicted = host !== null || disk !== null;
    this.#tiers = [host, disk].filter((tier) => tier !== null);
  }

  /** What the tier that has most of a block has of it. */
  find(key: string): number {
    let most = 0;
    for (const tier of this.#tiers) {
      const groups = tier.find(key);
      if ((most & ~groups) === 0) most = groups;
    }
    return most;
  }

  wants(key: string, groups: number, isEvicted: boolean): boolean {
    return (isEvicted && lacks(this.#host, key, groups)) || lacks(this.#disk, key, groups);
  }

  /** Keeps a block that was read out. */
  put(key: string, block: StoredBlock, isEvicted: boolean): void {
    if (isEvicted && lacks(this.#host, key, block.groups)) this.#host?.put(key, block);
    if (lacks(this.#disk, key, block.groups)) this.#disk?.put(key, block);
  }

  /** A block with at least the groups wanted, or null. Never rejects. */
  async get(key: string, wanted: number): Promise<StoredBlock | null> {
    for (const tier of this.#tiers) {
      if ((wanted & ~tier.find(key)) !== 0) continue;
      const block = await tier.get(key).catch(() => null);
      if (block !== null && (wanted & ~block.groups) === 0) return block;
    }
    return null;
  }

  stats(): TierStats[] {
    return this.#tiers.map((tier) => tier.stats());
  }

  async close(): Promise<void> {
    await Promise.all(this.#tiers.map((tier) => tier.close()));
  }
}

function lacks(tier: KvTier | null, key: string, groups: number): boolean {
  return tier !== null && (groups & ~tier.find(key)) !== 0;
}
