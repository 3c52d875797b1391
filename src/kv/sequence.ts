/** The blocks that one request holds: a table per cache group, and how far its prefix has been published. */
import { NO_BLOCK, NO_NODE } from './block-pool.ts';
import type { Retention } from './retention.ts';

/** Owned by `KvCache`; others read `numBlocks` and `table`. */
export class KvSequence {
  /** Per group: block of each run of `blockSize` tokens, NO_BLOCK where a window has slid past. */
  readonly tables: Int32Array[];
  /** Entries of each table in use. */
  numBlocks = 0;
  /** Deepest tree node on the path of its tokens, or NO_NODE when nothing is shared (prefix cache off). */
  node = NO_NODE;
  /** Blocks on that path. */
  numPublished = 0;
  /** First table entry of each group that may still hold a block. */
  readonly firstHeld: Int32Array;
  /** Partial prefix hit to be copied once a block for it is allocated: its source blocks are held until then. */
  copyTokens = 0;
  readonly copySources: Int32Array;
  /** Of state groups: the block with the state behind the last token computed; NO_BLOCK before the first step, and of other groups. */
  readonly states: Int32Array;
  /** Remembered states to be copied once the sequence has blocks for its own; held until then. */
  readonly stateSources: Int32Array;
  /** Copies of the states behind token `checkpointLength - 1`, made with a step that is yet to end; then they are remembered. */
  readonly checkpoints: Int32Array;
  checkpointLength = 0;
  /** Of its request, for the eviction policy; lower is more urgent. */
  readonly priority: number;
  /** Of a sequence that does not keep all of its tokens; null of all others. It has no node. */
  readonly retention: Retention | null;

  constructor(numGroups: number, priority = 0, retention: Retention | null = null) {
    this.priority = priority;
    this.retention = retention;
    this.tables = Array.from({ length: numGroups }, () => new Int32Array(8).fill(NO_BLOCK));
    this.firstHeld = new Int32Array(numGroups);
    this.copySources = new Int32Array(numGroups).fill(NO_BLOCK);
    this.states = new Int32Array(numGroups).fill(NO_BLOCK);
    this.stateSources = new Int32Array(numGroups).fill(NO_BLOCK);
    this.checkpoints = new Int32Array(numGroups).fill(NO_BLOCK);
  }

  /** Tokens that have left the cache: what is computed next lies so many cache indices before its place in the text. */
  get numDropped(): number {
    return this.retention === null ? 0 : this.retention.dropped;
  }

  table(group: number): Int32Array {
    return this.tables[group];
  }

  /** Makes room for `numBlocks` entries. */
  reserve(numBlocks: number): void {
    if (this.tables[0].length >= numBlocks) return;
    const capacity = Math.max(numBlocks, this.tables[0].length * 2);
    for (let g = 0; g < this.tables.length; g++) {
      const larger = new Int32Array(capacity).fill(NO_BLOCK);
      larger.set(this.tables[g]);
      this.tables[g] = larger;
    }
  }
}
