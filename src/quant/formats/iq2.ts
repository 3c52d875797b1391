import { blockwise, extreme, level, loadF16, SUPER_BLOCK, storeF16 } from './blocks.ts';
import { CodeBook, evenSigns, evenSignsOf, scaledMagnitudes, signsOf } from './code-book.ts';

const levels = [8, 25, 43];
const MOST = 43;
const books = { xxs: new CodeBook('iq2_xxs', levels), xs: new CodeBook('iq2_xs', levels), s: new CodeBook('iq2_s', levels) };
const scratch = new Float32Array(8);

/** Steps of `count` groups as `d / 4 * (scale + 0.5)` with scales of four bits; writes `d` to the block. */
function encodeScales(values: Float32Array, from: number, groupElements: number, bytes: Uint8Array, at: number) {
  const count = SUPER_BLOCK / groupElements;
  const steps = Array.from({ length: count }, (_, g) => Math.abs(extreme(values, from + groupElements * g, groupElements)) / MOST);
  const quarter = storeF16(bytes, at, (Math.max(...steps) * 4) / 15.5) / 4;
  return steps.map((step) => {
    const scale = level(step - quarter / 2, quarter, 0, 15);
    return { scale, step: quarter * (scale + 0.5) };
  });
}

function put(book: CodeBook, entry: number, scale: number, signs: number, out: Float32Array, to: number): void {
  for (let i = 0; i < 8; i++) out[to + i] = ((signs >> i) & 1) === 1 ? -scale * book.values[8 * entry + i] : scale * book.values[8 * entry + i];
}

function find(book: CodeBook, values: Float32Array, from: number, step: number): number {
  scaledMagnitudes(values, from, 8, step, scratch);
  return book.search(scratch, 0);
}

/**
 * Super-blocks of 256 in 66 bytes: f16 `d`, then for each group of 32 four indices of a book of 256 runs of eight magnitudes, and a word of four times seven
 * sign bits and a 4-bit scale. `value = d / 4 * (scale + 0.5) * magnitude`. The IQ2_XXS of GGUF files.
 */
export const iq2_xxs = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 66,
  decode(bytes, at, out, to) {
    const quarter = loadF16(bytes, at) / 4;
    for (let j = 0; j < 8; j++) {
      const p = at + 2 + 8 * j;
      const word = bytes[p + 4] | (bytes[p + 5] << 8) | (bytes[p + 6] << 16) | (bytes[p + 7] << 24);
      const scale = quarter * ((word >>> 28) + 0.5);
      for (let k = 0; k < 4; k++) put(books.xxs, bytes[p + k], scale, evenSigns((word >> (7 * k)) & 127), out, to + 32 * j + 8 * k);
    }
  },
  encode(values, from, bytes, at) {
    encodeScales(values, from, 32, bytes, at).forEach(({ scale, step }, j) => {
      const p = at + 2 + 8 * j;
      let word = scale << 28;
      for (let k = 0; k < 4; k++) {
        bytes[p + k] = find(books.xxs, values, from + 32 * j + 8 * k, step);
        word |= evenSignsOf(values, from + 32 * j + 8 * k) << (7 * k);
      }
      for (let i = 0; i < 4; i++) bytes[p + 4 + i] = (word >>> (8 * i)) & 255;
    });
  },
});

/**
 * Super-blocks of 256 in 74 bytes: f16 `d`, 32 words of an index of nine bits (a book of 512 runs of eight) and seven sign bits, eight bytes of two 4-bit
 * scales of groups of 16. `value = d / 4 * (scale + 0.5) * magnitude`. The IQ2_XS of GGUF files.
 */
export const iq2_xs = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 74,
  decode(bytes, at, out, to) {
    const quarter = loadF16(bytes, at) / 4;
    for (let k = 0; k < 32; k++) {
      const word = bytes[at + 2 + 2 * k] | (bytes[at + 3 + 2 * k] << 8);
      const scale = quarter * (((bytes[at + 66 + (k >> 2)] >> (4 * ((k >> 1) & 1))) & 15) + 0.5);
      put(books.xs, word & 511, scale, evenSigns(word >> 9), out, to + 8 * k);
    }
  },
  encode(values, from, bytes, at) {
    encodeScales(values, from, 16, bytes, at).forEach(({ scale, step }, g) => {
      bytes[at + 66 + (g >> 1)] |= scale << (4 * (g & 1));
      for (let k = 2 * g; k < 2 * g + 2; k++) {
        const word = find(books.xs, values, from + 8 * k, step) | (evenSignsOf(values, from + 8 * k) << 9);
        bytes[at + 2 + 2 * k] = word & 255;
        bytes[at + 3 + 2 * k] = word >> 8;
      }
    });
  },
});

/**
 * Super-blocks of 256 in 82 bytes: f16 `d`, 32 low bytes of indices of a book of 1024 runs of eight, 32 bytes of signs, eight bytes of the indices' high bit
 * pairs, eight bytes of two 4-bit scales of groups of 16. `value = d / 4 * (scale + 0.5) * magnitude`. The IQ2_S of GGUF files.
 */
export const iq2_s = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 82,
  decode(bytes, at, out, to) {
    const quarter = loadF16(bytes, at) / 4;
    for (let k = 0; k < 32; k++) {
      const entry = bytes[at + 2 + k] | (((bytes[at + 66 + (k >> 2)] >> (2 * (k & 3))) & 3) << 8);
      const scale = quarter * (((bytes[at + 74 + (k >> 2)] >> (4 * ((k >> 1) & 1))) & 15) + 0.5);
      put(books.s, entry, scale, bytes[at + 34 + k], out, to + 8 * k);
    }
  },
  encode(values, from, bytes, at) {
    encodeScales(values, from, 16, bytes, at).forEach(({ scale, step }, g) => {
      bytes[at + 74 + (g >> 1)] |= scale << (4 * (g & 1));
      for (let k = 2 * g; k < 2 * g + 2; k++) {
        const entry = find(books.s, values, from + 8 * k, step);
        bytes[at + 2 + k] = entry & 255;
        bytes[at + 34 + k] = signsOf(values, from + 8 * k);
        bytes[at + 66 + (k >> 2)] |= (entry >> 8) << (2 * (k & 3));
      }
    });
  },
});
