/**
 * Turns a scheduled batch into the flat arrays that a backend takes. Everything is allocated once, for the largest step that the limits allow,
 * and filled in place.
 */
import type { ForwardBatch } from '../backends/backend.ts';
import { invariant } from '../base/errors.ts';
import type { KvCache } from '../kv/kv-cache.ts';
import { isState } from '../kv/layout.ts';
import { PROMPT_LOGIT_ROWS, type ScheduledBatch } from '../scheduler/scheduled-batch.ts';

export interface ForwardBatchLimits {
  readonly maxTokens: number;
  readonly maxRows: number;
  readonly maxLogitRows: number;
  readonly maxModelLen: number;
  /** Axes of a position (S4): 1 for text. */
  readonly numPositionAxes: number;
}

export class FilledForwardBatch implements ForwardBatch {
  numTokens = 0;
  numRows = 0;
  numLogitRows = 0;
  maxBlocks = 1;
  numCopies = 0;
  copies: Int32Array = new Int32Array(0);
  readonly tokenIds: Int32Array;
  readonly positions: Int32Array;
  readonly rowStart: Int32Array;
  readonly cacheIndex: Int32Array;
  readonly visibleEnd: Int32Array;
  readonly slotMapping: Int32Array;
  readonly logitTokens: Int32Array;
  blockTables: Int32Array;
  readonly #numGroups: number;
  readonly #numPositionAxes: number;
  readonly #blockSize: number;
  readonly #isState: readonly boolean[];

  constructor(kv: KvCache, limits: ForwardBatchLimits) {
    this.#numGroups = kv.groups.length;
    this.#numPositionAxes = limits.numPositionAxes;
    this.#blockSize = kv.blockSize;
    this.#isState = kv.groups.map(isState);
    this.tokenIds = new Int32Array(limits.maxTokens);
    this.positions = new Int32Array(limits.maxTokens * limits.numPositionAxes);
    this.rowStart = new Int32Array(limits.maxRows + 1);
    this.cacheIndex = new Int32Array(limits.maxTokens);
    this.visibleEnd = new Int32Array(limits.maxTokens);
    this.slotMapping = new Int32Array(limits.maxTokens * this.#numGroups);
    this.logitTokens = new Int32Array(limits.maxLogitRows + PROMPT_LOGIT_ROWS);
    // all rows together cannot point at more blocks than rows x context, nor at more distinct ones than exist; shared ones count per row
    const blocksPerRow = Math.ceil(limits.maxModelLen / kv.blockSize);
    this.blockTables = new Int32Array(Math.min(blocksPerRow, 64) * limits.maxRows * this.#numGroups);
  }

  /** Describes the step; valid until the next call. */
  fill(batch: ScheduledBatch): void {
    this.numRows = batch.numRows;
    this.numTokens = batch.totalTokens;
    this.numLogitRows = batch.totalLogitRows + batch.totalPromptRows;
    this.copies = batch.copies;
    this.numCopies = batch.numCopies;
    this.#fillTokens(batch);
    this.#fillBlockTables(batch);
  }

  /** Block copies come before all else: an entry that runs before this one takes them over. */
  moveCopies(first: ForwardBatch): ForwardBatch {
    const { copies, numCopies } = this;
    this.numCopies = 0;
    return { ...first, copies, numCopies };
  }

  #fillTokens(batch: ScheduledBatch): void {
    const { tokenIds, cacheIndex, visibleEnd, positions, logitTokens, rowStart } = this;
    let token = 0;
    let logitRow = 0;
    let promptRow = batch.totalLogitRows;
    for (let row = 0; row < batch.numRows; row++) {
      const request = batch.requests[row];
      const first = batch.firstToken[row];
      const end = first + batch.numNewTokens[row];
      const { numTokens } = request;
      const pendingId = batch.pendingRow[row] < 0 ? null : -1 - batch.pendingRow[row];
      rowStart[row] = token;
      const dropped = request.sequence?.numDropped ?? 0;
      const base = request.sequence?.retention?.base ?? 0;
      for (let index = first; index < end; index++, token++) {
        tokenIds[token] = index < numTokens ? request.tokenIds[index] : (pendingId ?? request.draftTokenIds[index - numTokens]);
        cacheIndex[token] = index - dropped;
        visibleEnd[token] = index - dropped + 1;
        for (let axis = 0; axis < this.#numPositionAxes; axis++) positions[axis * batch.totalTokens + token] = index - base;
      }
      for (let i = 0; i < batch.numPromptRows[row]; i++) logitTokens[promptRow++] = rowStart[row] + i;
      const numLogitRows = batch.numLogitRows[row];
      for (let i = numLogitRows; i > 0; i--) logitTokens[logitRow++] = token - i;
    }
    rowStart[batch.numRows] = token;
    invariant(token === batch.totalTokens && logitRow === batch.totalLogitRows, 'the batch does not add up');
  }

  #fillBlockTables(batch: ScheduledBatch): void {
    let maxBlocks = 1;
    for (let row = 0; row < batch.numRows; row++) maxBlocks = Math.max(maxBlocks, batch.requests[row].sequence?.numBlocks ?? 0);
    this.maxBlocks = maxBlocks;
    const size = this.#numGroups * batch.numRows * maxBlocks;
    if (this.blockTables.length < size) this.blockTables = new Int32Array(Math.max(size, this.blockTables.length * 2));
    const { blockTables, slotMapping } = this;
    const blockSize = this.#blockSize;
    for (let group = 0; group < this.#numGroups; group++) {
      let slot = group * batch.totalTokens;
      for (let row = 0; row < batch.numRows; row++) {
        const { sequence } = batch.requests[row];
        invariant(sequence !== null, 'a scheduled row holds blocks');
        const table = sequence.tables[group];
        const base = (group * batch.numRows + row) * maxBlocks;
        if (this.#isState[group]) {
          blockTables.fill(-1, base, base + maxBlocks);
          blockTables[base] = sequence.states[group];
          slotMapping.fill(sequence.states[group], slot, slot + batch.numNewTokens[row]);
          slot += batch.numNewTokens[row];
          continue;
        }
        const { numBlocks } = sequence;
        for (let i = 0; i < numBlocks; i++) blockTables[base + i] = table[i];
        blockTables.fill(-1, base + numBlocks, base + maxBlocks);
        const first = batch.firstToken[row] - sequence.numDropped;
        const end = first + batch.numNewTokens[row];
        for (let index = first; index < end; index++) {
          slotMapping[slot++] = table[Math.floor(index / blockSize)] * blockSize + (index % blockSize);
        }
      }
    }
  }
}
