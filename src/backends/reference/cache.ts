/** K and V of the reference backend: every number rounded to the cache dtype, held as f32. */
import { MillraceError } from '../../base/errors.ts';
import type { Cache, CacheSpec } from '../backend.ts';
import { checkBlockBytes, layoutName } from '../block-bytes.ts';
import { type HeadRounding, kvRounding } from './kv-rounding.ts';

/** One layer of one group: `[slots, width]`. In a latent group `k` and `v` are the same rows. */
export interface CacheLayer {
  readonly k: Float32Array;
  readonly v: Float32Array;
  /** What each head of V is stored under, `[slots, numKvHeads]`: a number is this times a level. 1 in number types without scales. */
  readonly scales: Float32Array;
  /** `numKvHeads * headDim`: of a row. */
  readonly width: number;
  readonly numKvHeads: number;
}

export class ReferenceCache implements Cache {
  readonly spec: CacheSpec;
  readonly sizeBytes: number;
  readonly blockBytes: readonly number[];
  readonly layout: string;
  readonly #layers: CacheLayer[][];
  readonly #round: HeadRounding;

  /** @throws MEMORY_INSUFFICIENT */
  constructor(spec: CacheSpec) {
    this.spec = spec;
    this.#round = kvRounding[spec.dtype];
    try {
      this.#layers = spec.groups.map(({ kind, numBlocks, numLayers, numKvHeads, headDim }) =>
        Array.from({ length: numLayers }, () => {
          const width = numKvHeads * headDim;
          const length = numBlocks * spec.blockSize * width;
          const k = new Float32Array(length);
          const scales = new Float32Array(numBlocks * spec.blockSize * numKvHeads);
          return { k, v: kind === 'latent' ? k : new Float32Array(length), scales, width, numKvHeads };
        }),
      );
    } catch (cause) {
      throw new MillraceError('MEMORY_INSUFFICIENT', {
        message: 'The KV cache cannot be allocated.',
        hint: 'Lower the number of blocks or the context length.',
        cause,
      });
    }
    this.layout = layoutName('reference 2', spec);
    this.blockBytes = this.#layers.map((layers) =>
      layers.reduce((sum, { k, v, width, numKvHeads }) => sum + 4 * spec.blockSize * ((v === k ? 1 : 2) * width + numKvHeads), 0),
    );
    this.sizeBytes = this.#layers.flat().reduce((sum, { k, v, scales }) => sum + k.byteLength + (v === k ? 0 : v.byteLength) + scales.byteLength, 0);
  }

  layer(group: number, layer: number): CacheLayer {
    return this.#layers[group][layer];
  }

  /** Stores one token's K and V of one layer. */
  write(group: number, layer: number, slot: number, k: Float32Array, atK: number, v: Float32Array, atV: number): void {
    const target = this.#layers[group][layer];
    const at = slot * target.width;
    const headDim = target.width / target.numKvHeads;
    for (let i = 0; i < target.width; i += headDim) {
      this.#round(k, atK + i, headDim, target.k, at + i);
      target.scales[slot * target.numKvHeads + i / headDim] = this.#round(v, atV + i, headDim, target.v, at + i);
    }
  }

  /** Stores one token's row of a latent group, its two parts side by side, rounded as one head. */
  writeLatent(group: number, layer: number, slot: number, latent: Float32Array, key: Float32Array): void {
    const { k, width } = this.#layers[group][layer];
    const at = slot * width;
    k.set(latent, at);
    k.set(key, at + latent.length);
    this.#round(k, at, width, k, at);
  }

  /** Stores all heads of one token's K alone. */
  writeKey(group: number, layer: number, slot: number, k: Float32Array): void {
    const { width, numKvHeads, k: stored } = this.#layers[group][layer];
    const headDim = width / numKvHeads;
    for (let i = 0; i < width; i += headDim) this.#round(k, i, headDim, stored, slot * width + i);
  }

  /** Copies a token's K and V of one layer, as stored. */
  moveSlot(group: number, layer: number, from: number, to: number): void {
    for (let head = 0; head < this.#layers[group][layer].numKvHeads; head++) this.moveHead(group, layer, head, from, to);
  }

  /** The same of one head. */
  moveHead(group: number, layer: number, head: number, from: number, to: number): void {
    const { k, v, scales, width, numKvHeads } = this.#layers[group][layer];
    const headDim = width / numKvHeads;
    scales[to * numKvHeads + head] = scales[from * numKvHeads + head];
    for (const array of [k, v]) array.copyWithin(to * width + head * headDim, from * width + head * headDim, from * width + (head + 1) * headDim);
  }

  /** Copies the first `numTokens` tokens of a block, in all layers of its group. */
  copyBlock(group: number, source: number, destination: number, numTokens: number): void {
    for (const { k, v, scales, width, numKvHeads } of this.#layers[group]) {
      const first = source * this.spec.blockSize * numKvHeads;
      scales.copyWithin(destination * this.spec.blockSize * numKvHeads, first, first + numTokens * numKvHeads);
      const from = source * this.spec.blockSize * width;
      const to = destination * this.spec.blockSize * width;
      k.copyWithin(to, from, from + numTokens * width);
      v.copyWithin(to, from, from + numTokens * width);
    }
  }

  /** Of each block, layer by layer: its rows of k, then of v, then the scales of these, as f32. */
  readBlocks(blocks: Int32Array): Uint8Array {
    const numbers = new Float32Array(checkBlockBytes(this, blocks) / 4);
    let at = 0;
    this.#eachPart(blocks, (part) => {
      numbers.set(part, at);
      at += part.length;
    });
    return new Uint8Array(numbers.buffer);
  }

  writeBlocks(blocks: Int32Array, bytes: Uint8Array): void {
    checkBlockBytes(this, blocks, bytes);
    const numbers = new Float32Array(new Uint8Array(bytes).buffer);
    let at = 0;
    this.#eachPart(blocks, (part) => {
      part.set(numbers.subarray(at, at + part.length));
      at += part.length;
    });
  }

  #eachPart(blocks: Int32Array, visit: (part: Float32Array) => void): void {
    for (let i = 0; i < blocks.length; i += 2) {
      for (const { k, v, scales, width, numKvHeads } of this.#layers[blocks[i]]) {
        const heads = this.spec.blockSize * numKvHeads;
        const size = this.spec.blockSize * width;
        visit(k.subarray(blocks[i + 1] * size, (blocks[i + 1] + 1) * size));
        if (v !== k) visit(v.subarray(blocks[i + 1] * size, (blocks[i + 1] + 1) * size));
        visit(scales.subarray(blocks[i + 1] * heads, (blocks[i + 1] + 1) * heads));
      }
    }
  }

  close(): void {
    this.#layers.length = 0;
  }
}
