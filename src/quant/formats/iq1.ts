import { numberToF16 } from '../../base/dtype.ts';
import { blockwise, level, loadF16, SUPER_BLOCK, storeF16 } from './blocks.ts';
import { CodeBook } from './code-book.ts';
import { f16Values } from './f16.ts';

const book = new CodeBook('iq1', [-1, 0, 1]);
/** What is added to the ternary digits of a run, up or down. */
const SHIFT = 0.125;
const scratch = new Float32Array(8);

function put(entry: number, scale: number, shift: number, out: Float32Array, to: number): void {
  for (let i = 0; i < 8; i++) out[to + i] = scale * (book.values[8 * entry + i] + shift);
}

/** Entry and direction of the shift that come nearer to `values / step`. */
function find(values: Float32Array, from: number, step: number, shift: number): number {
  for (let i = 0; i < 8; i++) scratch[i] = step === 0 ? 0 : values[from + i] / step - shift;
  return book.search(scratch, 0);
}

/** Scales of groups as `d * (2 * scale + 1)` with scales of three bits: 1.5 times the mean magnitude, which suits ternary digits. */
function stepsOf(values: Float32Array, from: number, groupElements: number): number[] {
  return Array.from({ length: SUPER_BLOCK / groupElements }, (_, g) => {
    let sum = 0;
    for (let i = 0; i < groupElements; i++) sum += Math.abs(values[from + groupElements * g + i]);
    return (1.5 * sum) / groupElements;
  });
}

function shiftOf(values: Float32Array, from: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += values[from + i];
  return sum < 0 ? -SHIFT : SHIFT;
}

/**
 * Super-blocks of 256 in 50 bytes: f16 `d`, 32 low bytes of indices of a book of 2048 runs of eight ternary digits, and for each group of 32 a word of four
 * times three high index bits, a 3-bit scale and the direction of the shift. `value = d * (2 * scale + 1) * (digit +- 1/8)`. The IQ1_S of GGUF files.
 */
export const iq1_s = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 50,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at);
    for (let j = 0; j < 8; j++) {
      const word = bytes[at + 34 + 2 * j] | (bytes[at + 35 + 2 * j] << 8);
      const scale = d * (2 * ((word >> 12) & 7) + 1);
      for (let k = 0; k < 4; k++) {
        const entry = bytes[at + 2 + 4 * j + k] | (((word >> (3 * k)) & 7) << 8);
        put(entry, scale, word & 0x8000 ? -SHIFT : SHIFT, out, to + 32 * j + 8 * k);
      }
    }
  },
  encode(values, from, bytes, at) {
    const steps = stepsOf(values, from, 32);
    const d = storeF16(bytes, at, Math.max(...steps) / 15);
    steps.forEach((step, j) => {
      const scale = level((step - d) / 2, d, 0, 7);
      const shift = shiftOf(values, from + 32 * j, 32);
      let word = (scale << 12) | (shift < 0 ? 0x8000 : 0);
      for (let k = 0; k < 4; k++) {
        const entry = find(values, from + 32 * j + 8 * k, d * (2 * scale + 1), shift);
        bytes[at + 2 + 4 * j + k] = entry & 255;
        word |= (entry >> 8) << (3 * k);
      }
      bytes[at + 34 + 2 * j] = word & 255;
      bytes[at + 35 + 2 * j] = word >> 8;
    });
  },
});

/**
 * Super-blocks of 256 in 56 bytes: 32 low bytes of indices of the same book, 16 bytes of a nibble a run (three high index bits, direction of the shift),
 * four words of four 3-bit scales of groups of 16 and a nibble of the f16 `d`. `value` as of IQ1_S. The IQ1_M of GGUF files.
 */
export const iq1_m = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 56,
  decode(bytes, at, out, to) {
    let half = 0;
    for (let w = 0; w < 4; w++) half |= (bytes[at + 49 + 2 * w] >> 4) << (4 * w);
    const d = f16Values()[half];
    for (let k = 0; k < 32; k++) {
      const g = k >> 1;
      const word = bytes[at + 48 + 2 * (g >> 2)] | (bytes[at + 49 + 2 * (g >> 2)] << 8);
      const scale = d * (2 * ((word >> (3 * (g & 3))) & 7) + 1);
      const nibble = (bytes[at + 32 + (k >> 1)] >> (4 * (k & 1))) & 15;
      put(bytes[at + k] | ((nibble & 7) << 8), scale, nibble & 8 ? -SHIFT : SHIFT, out, to + 8 * k);
    }
  },
  encode(values, from, bytes, at) {
    const steps = stepsOf(values, from, 16);
    const half = numberToF16(Math.max(...steps) / 15);
    const d = f16Values()[half];
    for (let w = 0; w < 4; w++) bytes[at + 49 + 2 * w] = ((half >> (4 * w)) & 15) << 4;
    steps.forEach((step, g) => {
      const scale = level((step - d) / 2, d, 0, 7);
      const bits = scale << (3 * (g & 3));
      bytes[at + 48 + 2 * (g >> 2)] |= bits & 255;
      bytes[at + 49 + 2 * (g >> 2)] |= bits >> 8;
      for (let k = 2 * g; k < 2 * g + 2; k++) {
        const shift = shiftOf(values, from + 8 * k, 8);
        const entry = find(values, from + 8 * k, d * (2 * scale + 1), shift);
        bytes[at + k] = entry & 255;
        bytes[at + 32 + (k >> 1)] |= ((entry >> 8) | (shift < 0 ? 8 : 0)) << (4 * (k & 1));
      }
    });
  },
});
