/** Blocks in the memory of the host: for devices with memory of their own, and room for preempted requests on any. */
import type { KvTier, StoredBlock, TierStats } from './tier.ts';

export class HostTier implements KvTier {
  readonly name = 'host';
  readonly #limitBytes: number;
  /** In order of last use. */
  readonly #blocks = new Map<string, StoredBlock>();
  #sizeBytes = 0;
  readonly #counts = { numStored: 0, numFailedStores: 0, numLoaded: 0, numFailedLoads: 0, numEvicted: 0 };

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  find(key: string): number {
    return this.#blocks.get(key)?.groups ?? 0;
  }

  put(key: string, block: StoredBlock): void {
    if (block.bytes.byteLength > this.#limitBytes) {
      this.#counts.numFailedStores++;
      return;
    }
    this.#remove(key);
    this.#blocks.set(key, block);
    this.#sizeBytes += block.bytes.byteLength;
    this.#counts.numStored++;
    for (const oldest of this.#blocks.keys()) {
      if (this.#sizeBytes <= this.#limitBytes) break;
      this.#remove(oldest);
      this.#counts.numEvicted++;
    }
  }

  async get(key: string): Promise<StoredBlock | null> {
    const block = this.#blocks.get(key);
    if (block === undefined) {
      this.#counts.numFailedLoads++;
      return null;
    }
    this.#blocks.delete(key);
    this.#blocks.set(key, block);
    this.#counts.numLoaded++;
    return block;
  }

  stats(): TierStats {
    return { name: this.name, numBlocks: this.#blocks.size, sizeBytes: this.#sizeBytes, limitBytes: this.#limitBytes, ...this.#counts };
  }

  async close(): Promise<void> {
    this.#blocks.clear();
    this.#sizeBytes = 0;
  }

  #remove(key: string): void {
    const block = this.#blocks.get(key);
    if (block === undefined) return;
    this.#blocks.delete(key);
    this.#sizeBytes -= block.bytes.byteLength;
  }
}
