/** The cache of the null backend: for each slot, the hash of the context that ends there, and its position. */
import { MillraceError } from '../../base/errors.ts';
import type { Cache, CacheSpec, ForwardBatch } from '../backend.ts';
import { checkBlockBytes, layoutName } from '../block-bytes.ts';

/** Position of a key that stayed of a compressed prompt: it may have been anywhere. */
const STAYED = -2;

export class NullCache implements Cache {
  readonly spec: CacheSpec;
  readonly sizeBytes = 0;
  readonly blockBytes: readonly number[];
  readonly layout: string;
  readonly #hashes: Uint32Array[];
  /** -1 where nothing was written yet. */
  readonly #positions: Int32Array[];

  constructor(spec: CacheSpec) {
    this.spec = spec;
    this.blockBytes = spec.groups.map(() => 8 * spec.blockSize);
    this.layout = layoutName('null 1', spec);
    const slots = ({ kind, numBlocks }: CacheSpec['groups'][number]) => (kind === 'state' ? numBlocks : numBlocks * spec.blockSize);
    this.#hashes = spec.groups.map((group) => new Uint32Array(slots(group)));
    this.#positions = spec.groups.map((group) => new Int32Array(slots(group)).fill(-1));
  }

  write(batch: ForwardBatch, token: number, hash: number): void {
    for (let group = 0; group < this.#hashes.length; group++) {
      const slot = batch.slotMapping[group * batch.numTokens + token];
      this.#hashes[group][slot] = hash;
      this.#positions[group][slot] = batch.positions[token];
    }
  }

  /** Hash of the context before a token, found through every group. @throws BACKEND_STEP_FAILED where groups disagree */
  hashBefore(batch: ForwardBatch, row: number, token: number, empty: number): number {
    if (batch.cacheIndex[token] === 0) return empty;
    let hash = empty;
    for (let group = 0; group < this.#hashes.length; group++) {
      const found = this.#hashes[group][this.#slotBefore(batch, group, row, token)];
      if (group > 0 && found !== hash) fail(`row ${row}: cache groups 0 and ${group} hold different contexts before token ${token}`);
      hash = found;
    }
    return hash;
  }

  #slotBefore(batch: ForwardBatch, group: number, row: number, token: number): number {
    const { ancestors, visibleEnd, cacheIndex } = batch;
    if (this.spec.groups[group].kind === 'state') {
      const state = batch.slotMapping[group * batch.numTokens + token];
      const behind = this.#positions[group][state];
      if (behind !== batch.positions[token] - 1) fail(`row ${row}: the state for token ${token} is that behind position ${behind}`);
      return state;
    }
    const index = cacheIndex[token] - 1;
    if (ancestors === undefined || index < visibleEnd[token]) return this.#slotOf(batch, group, row, index);
    return ancestors.slots[group * ancestors.start[batch.numTokens] + ancestors.start[token] + index - visibleEnd[token]];
  }

  #slotOf({ blockTables, numRows, maxBlocks }: ForwardBatch, group: number, row: number, index: number): number {
    const { blockSize } = this.spec;
    return blockTables[(group * numRows + row) * maxBlocks + Math.floor(index / blockSize)] * blockSize + (index % blockSize);
  }

  /** Every key that a row sees through its block table was written, as the key of the position that goes with that index. @throws BACKEND_STEP_FAILED */
  checkVisible(batch: ForwardBatch, row: number): void {
    const { rowStart, cacheIndex, visibleEnd, positions } = batch;
    const ahead = positions[rowStart[row]] - cacheIndex[rowStart[row]];
    this.spec.groups.forEach(({ kind, window, name }, group) => {
      if (kind === 'state') return;
      let first = Infinity;
      let end = 0;
      for (let token = rowStart[row]; token < rowStart[row + 1]; token++) {
        first = Math.min(first, kind === 'window' ? Math.max(0, cacheIndex[token] + 1 - (window ?? 0)) : 0);
        end = Math.max(end, visibleEnd[token]);
      }
      for (let index = first; index < end; index++) {
        const held = this.#positions[group][this.#slotOf(batch, group, row, index)];
        if (held === index + ahead || held === STAYED) continue;
        fail(`row ${row} sees key ${index} in group ${name}, where ${held < 0 ? 'nothing was written' : `the key of position ${held} lies`}`);
      }
    });
  }

  /** `kv-rotate` */
  rotate(batch: ForwardBatch): void {
    this.spec.groups.forEach((_, group) => {
      for (let row = 0; row < batch.numRows; row++) {
        for (let token = batch.rowStart[row]; token < batch.rowStart[row + 1]; token++) {
          const to = batch.slotMapping[group * batch.numTokens + token];
          const from = this.#move(batch, group, row, batch.cacheIndex[token], to);
          if (this.#positions[group][from] < 0) fail(`row ${row} turns key ${batch.cacheIndex[token]}, where nothing was written`);
          this.#positions[group][to] += batch.positions[token];
        }
      }
    });
  }

  /** `kv-compress`: which keys stay cannot be told here, so the first do, and those of the row's tokens. */
  compress(batch: ForwardBatch, kept: Int32Array): void {
    this.spec.groups.forEach((_, group) => {
      for (let row = 0; row < batch.numRows; row++) {
        const numTokens = batch.rowStart[row + 1] - batch.rowStart[row];
        const numKeys = batch.cacheIndex[batch.rowStart[row + 1] - 1] + 1;
        for (let i = 0; i < kept[2 * row]; i++) {
          const to = this.#slotOf(batch, group, row, i);
          this.#move(batch, group, row, i < kept[2 * row] - numTokens ? i : numKeys - kept[2 * row] + i, to);
          this.#positions[group][to] = STAYED;
        }
        for (let i = kept[2 * row]; i < numKeys; i++) this.#positions[group][this.#slotOf(batch, group, row, i)] = -1;
      }
    });
  }

  /** @returns the slot that it came from */
  #move(batch: ForwardBatch, group: number, row: number, index: number, to: number): number {
    const from = this.#slotOf(batch, group, row, index);
    this.#hashes[group][to] = this.#hashes[group][from];
    this.#positions[group][to] = this.#positions[group][from];
    return from;
  }

  copyBlock(group: number, source: number, destination: number, numTokens: number): void {
    const { blockSize } = this.spec;
    if (this.spec.groups[group].kind === 'state') {
      for (const array of [this.#hashes[group], this.#positions[group]]) array[destination] = array[source];
      return;
    }
    for (const array of [this.#hashes[group], this.#positions[group]]) {
      array.copyWithin(destination * blockSize, source * blockSize, source * blockSize + numTokens);
    }
  }

  /** Of each block its hashes, then its positions. */
  readBlocks(blocks: Int32Array): Uint8Array {
    const { blockSize } = this.spec;
    const words = new Int32Array(checkBlockBytes(this, blocks) / 4);
    for (let i = 0; i < blocks.length / 2; i++) {
      const start = blocks[2 * i + 1] * blockSize;
      words.set(this.#hashes[blocks[2 * i]].subarray(start, start + blockSize), 2 * i * blockSize);
      words.set(this.#positions[blocks[2 * i]].subarray(start, start + blockSize), (2 * i + 1) * blockSize);
    }
    return new Uint8Array(words.buffer);
  }

  writeBlocks(blocks: Int32Array, bytes: Uint8Array): void {
    const { blockSize } = this.spec;
    checkBlockBytes(this, blocks, bytes);
    const words = new Int32Array(new Uint8Array(bytes).buffer);
    for (let i = 0; i < blocks.length / 2; i++) {
      const start = blocks[2 * i + 1] * blockSize;
      this.#hashes[blocks[2 * i]].set(words.subarray(2 * i * blockSize, (2 * i + 1) * blockSize), start);
      this.#positions[blocks[2 * i]].set(words.subarray((2 * i + 1) * blockSize, (2 * i + 2) * blockSize), start);
    }
  }

  close(): void {
    // holds nothing worth freeing
  }
}

function fail(complaint: string): never {
  throw new MillraceError('BACKEND_STEP_FAILED', `The batch breaks a rule: ${complaint}.`);
}
