/**
 * 8-bit integers under one f32 scale for each row of a matrix, which is an output channel: the weights of W8A8 checkpoints (compressed-tensors, strategy
 * `channel`, symmetric). `value = scale * level`, rounded to f32 once. Every block of a row begins with the scale of the row, so that rows are whole blocks as
 * those of all formats are; kernels hold the scale once.
 */
import { level } from './blocks.ts';
import type { WeightFormatDefinition } from './format.ts';
import { loadF32, storeF32 } from './integer-groups.ts';

const BLOCK = 32;
const BLOCK_BYTES = 36;
/** The largest magnitude of a row becomes this. */
export const INT8_MAX = 127;

/** Writes a row of signed levels under its scale into the blocks from byte `at` on. */
export function storeChannel(bytes: Uint8Array, at: number, scale: number, levels: Int8Array): void {
  for (let from = 0; from < levels.length; from += BLOCK, at += BLOCK_BYTES) {
    storeF32(bytes, at, scale);
    for (let i = 0; i < BLOCK; i++) bytes[at + 4 + i] = levels[from + i];
  }
}

export const int8_channel: WeightFormatDefinition = {
  blockElements: BLOCK,
  blockBytes: BLOCK_BYTES,
  heldBits: 8,
  dequantize(bytes, out) {
    for (let from = 0, at = 0; from < out.length; from += BLOCK, at += BLOCK_BYTES) {
      const scale = loadF32(bytes, at);
      for (let i = 0; i < BLOCK; i++) out[from + i] = scale * ((bytes[at + 4 + i] << 24) >> 24);
    }
  },
  quantize(values, columns = values.length) {
    const bytes = new Uint8Array((values.length / BLOCK) * BLOCK_BYTES);
    const levels = new Int8Array(columns);
    for (let row = 0; row < values.length; row += columns) {
      let largest = 0;
      for (let i = row; i < row + columns; i++) largest = Math.max(largest, Math.abs(values[i]));
      const scale = Math.fround(largest / INT8_MAX);
      for (let i = 0; i < columns; i++) levels[i] = level(values[row + i], scale, -INT8_MAX, INT8_MAX);
      storeChannel(bytes, (row / BLOCK) * BLOCK_BYTES, scale, levels);
    }
    return bytes;
  },
};
