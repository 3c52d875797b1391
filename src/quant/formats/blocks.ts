/** What formats of blocks share: the walk over blocks, half-precision scales, and simple rounding to levels. */
import { numberToF16 } from '../../base/dtype.ts';
import { f16Values } from './f16.ts';
import type { WeightFormatDefinition } from './format.ts';

/** Elements under one K-quant scale pair: eight groups of 32. */
export const SUPER_BLOCK = 256;

interface BlockCodec {
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Expands the block at byte `at` to `out[to...]`. */
  decode(bytes: Uint8Array, at: number, out: Float32Array, to: number): void;
  /** Packs `values[from...]` into the block at byte `at`, which is zeroed. */
  encode(values: Float32Array, from: number, bytes: Uint8Array, at: number): void;
}

/** A format that expands and packs block by block. */
export function blockwise({ blockElements, blockBytes, decode, encode }: BlockCodec): WeightFormatDefinition {
  return {
    blockElements,
    blockBytes,
    dequantize(bytes, out) {
      for (let block = 0; block * blockElements < out.length; block++) decode(bytes, block * blockBytes, out, block * blockElements);
    },
    quantize(values) {
      const bytes = new Uint8Array((values.length / blockElements) * blockBytes);
      for (let block = 0; block * blockElements < values.length; block++) encode(values, block * blockElements, bytes, block * blockBytes);
      return bytes;
    },
  };
}

export function loadF16(bytes: Uint8Array, at: number): number {
  return f16Values()[bytes[at] | (bytes[at + 1] << 8)];
}

/** Stores the nearest half and returns it. */
export function storeF16(bytes: Uint8Array, at: number, value: number): number {
  const bits = numberToF16(value);
  bytes[at] = bits & 0xff;
  bytes[at + 1] = bits >> 8;
  return f16Values()[bits];
}

/** The element of the largest magnitude, with its sign; the first of several. */
export function extreme(values: Float32Array, from: number, count: number): number {
  let found = 0;
  for (let i = from; i < from + count; i++) if (Math.abs(values[i]) > Math.abs(found)) found = values[i];
  return found;
}

export function range(values: Float32Array, from: number, count: number): { least: number; most: number } {
  let least = Infinity;
  let most = -Infinity;
  for (let i = from; i < from + count; i++) {
    least = Math.min(least, values[i]);
    most = Math.max(most, values[i]);
  }
  return { least, most };
}

/** `value / step` to the nearest whole number within `[low, high]`; 0 (or the nearest to it) where the step is 0. */
export function level(value: number, step: number, low: number, high: number): number {
  const steps = step === 0 ? 0 : Math.round(value / step);
  return Math.max(low, Math.min(high, steps));
}

/** Index of the nearest of a rising list of levels; the lower of two equally near. */
export function nearest(levels: readonly number[], value: number): number {
  let best = 0;
  for (let i = 1; i < levels.length; i++) if (Math.abs(levels[i] - value) < Math.abs(levels[best] - value)) best = i;
  return best;
}
