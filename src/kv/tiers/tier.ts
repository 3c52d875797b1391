/** A place beyond the device that keeps blocks of KV as bytes. */

/** The bytes of a block of tokens: of each group of which bit g is set, one behind the other in order of g. */
export interface StoredBlock {
  readonly groups: number;
  readonly bytes: Uint8Array;
}

/** Counters only grow; sizes are those of now. */
export interface TierStats {
  readonly name: string;
  readonly numBlocks: number;
  readonly sizeBytes: number;
  readonly limitBytes: number;
  /** Blocks stored, and not stored for want of room, time or a working disk. */
  readonly numStored: number;
  readonly numFailedStores: number;
  readonly numLoaded: number;
  /** Blocks that were there and could not be had: gone meanwhile, unreadable, corrupt. */
  readonly numFailedLoads: number;
  readonly numEvicted: number;
}

/**
 * A tier is a cache: it may forget anything at any time and never fails a request. Bounded in bytes; what was used longest ago goes first. Nothing here
 * waits on the event loop. Names say what a block holds (`BlockKeys`), so whatever is found under a name is right, in whatever process it was stored.
 */
export interface KvTier {
  readonly name: string;
  /** Bit g: group g's bytes are there. 0: nothing is. Answered from memory. */
  find(key: string): number;
  /** Keeps a block, whose bytes nobody changes any more, unless there are reasons not to. */
  put(key: string, block: StoredBlock): void;
  /** The block, or null where it is gone. Never rejects. */
  get(key: string): Promise<StoredBlock | null>;
  stats(): TierStats;
  /** Ends when what was put is where it belongs. */
  close(): Promise<void>;
}
