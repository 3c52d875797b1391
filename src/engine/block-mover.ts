/**
 * Moves blocks between the device and the tiers, as the scheduler decided. Reads and writes take their turn among the steps (`Backend.readBlocks`), so a block
 * is read out before whoever gets it next writes there, and nobody reads one before it is filled. A tier is a cache: nothing that goes wrong here fails a
 * request; it computes what did not come.
 */
import type { Backend, Cache } from '../backends/backend.ts';
import type { Clock } from '../base/clock.ts';
import type { BlockLoad, BlockStore } from '../kv/offload.ts';
import type { TierStack } from '../kv/tiers/tier-stack.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { LoadOrder } from '../scheduler/starter.ts';

export interface MoverParts {
  readonly backend: Backend;
  readonly cache: Cache;
  readonly tiers: TierStack;
  readonly scheduler: Scheduler;
  readonly clock: Clock;
  /** A load has ended: there may be something to schedule. */
  onLoaded(): void;
}

/** Blocks asked of a tier at a time, for one request. */
const FETCHES_AT_ONCE = 16;
/** Bytes that are written to the device together: while steps run, each round waits for one. */
const ROUND_BYTES = 256 * 2 ** 20;
/** A request waits no longer for a tier than that, milliseconds. */
const LOAD_PATIENCE_MS = 30_000;

export class BlockMover {
  readonly #parts: MoverParts;
  readonly #pending = new Set<Promise<void>>();
  #lastStoreMs = -Infinity;
  #isClosed = false;

  constructor(parts: MoverParts) {
    this.#parts = parts;
  }

  /** Reads out what the tiers are to keep. To be called before the step is handed over. */
  store(): void {
    const stores = this.#parts.scheduler.kv.offload?.drainStores() ?? [];
    if (!this.#isClosed) for (const store of stores) this.#track(this.#store(store));
  }

  /** Fetches what a request waits for. To be called after the step has been handed over. */
  load(orders: readonly LoadOrder[]): void {
    for (const order of orders) this.#track(this.#load(order));
  }

  /** Ends when everything is where it belongs, and closes the tiers. */
  async close(): Promise<void> {
    this.store();
    this.#isClosed = true;
    await Promise.all(this.#pending);
    await this.#parts.tiers.close();
  }

  async #store({ key, groups, blocks, isEvicted }: BlockStore): Promise<void> {
    const { backend, cache, tiers, scheduler, clock } = this.#parts;
    const askedMs = clock.nowMs();
    const bytes = await backend.readBlocks(cache, blocks);
    const doneMs = clock.nowMs();
    // those asked for together come one after the other
    scheduler.rates.noteStore(cache.spec.blockSize, doneMs - Math.max(askedMs, this.#lastStoreMs));
    this.#lastStoreMs = doneMs;
    tiers.put(key, { groups, bytes }, isEvicted);
  }

  async #load(order: LoadOrder): Promise<void> {
    const { scheduler } = this.#parts;
    let numLoaded = 0;
    try {
      numLoaded = await this.#fill(order);
    } catch {
      // a write that failed: blocks that were to be filled are not there
    }
    scheduler.endLoad(order, numLoaded);
    this.#parts.onLoaded();
  }

  /** @returns blocks filled, from the first */
  async #fill(order: LoadOrder): Promise<number> {
    const { scheduler, backend, cache, clock } = this.#parts;
    const startMs = clock.nowMs();
    const writes: Promise<void>[] = [];
    const perRound = Math.max(1, Math.floor(ROUND_BYTES / cache.blockBytes.reduce((sum, size) => sum + size, 0)));
    for (let at = 0, isWhole = true; isWhole && at < order.blocks.length; at += perRound) {
      const loads = order.blocks.slice(at, at + perRound);
      const bytes = await this.#fetch(loads, startMs + LOAD_PATIENCE_MS);
      scheduler.rates.noteLoad(bytes.length * cache.spec.blockSize, clock.nowMs() - startMs);
      // asked in the turn in which the writes take their places in the queue: a request that was stopped has none of these blocks any more
      if (!scheduler.isLoadWanted(order)) break;
      for (const [i, part] of bytes.entries()) {
        const write = backend.writeBlocks(cache, loads[i].blocks, part);
        write.catch(() => undefined); // it is awaited with the others, and may fail before
        writes.push(write);
      }
      isWhole = bytes.length === loads.length;
    }
    await Promise.all(writes);
    return writes.length;
  }

  /** What the tiers give of some blocks, up to the first that is gone or late. */
  async #fetch(loads: readonly BlockLoad[], untilMs: number): Promise<Uint8Array[]> {
    const { tiers, cache, clock } = this.#parts;
    const found: Uint8Array[] = [];
    for (let at = 0; at < loads.length; at += FETCHES_AT_ONCE) {
      const some = loads.slice(at, at + FETCHES_AT_ONCE);
      const blocks = await within(untilMs - clock.nowMs(), Promise.all(some.map(({ key, groups }) => tiers.get(key, groups))));
      for (const [i, load] of some.entries()) {
        const block = blocks?.[i] ?? null;
        const bytes = block === null ? null : bytesOf(load, block.groups, block.bytes, cache.blockBytes);
        if (bytes === null) return found;
        found.push(bytes);
      }
    }
    return found;
  }

  #track(work: Promise<void>): void {
    const tracked = work.catch(() => undefined).finally(() => this.#pending.delete(tracked));
    this.#pending.add(tracked);
  }
}

/** The bytes of the groups wanted among those that a tier had; null where they are not what the cache has. */
function bytesOf({ groups, blocks }: BlockLoad, held: number, bytes: Uint8Array, blockBytes: readonly number[]): Uint8Array | null {
  const parts: Uint8Array[] = [];
  let at = 0;
  for (let g = 0; g < blockBytes.length; g++) {
    if (((held >> g) & 1) === 0) continue;
    if (((groups >> g) & 1) === 1) parts.push(bytes.subarray(at, at + blockBytes[g]));
    at += blockBytes[g];
  }
  if (at !== bytes.byteLength || parts.length !== blocks.length / 2) return null;
  return parts.length === 1 ? parts[0] : Buffer.concat(parts);
}

/** What a promise gives, or null when it takes longer. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | null> {
  if (ms <= 0) return null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
