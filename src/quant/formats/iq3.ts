import { blockwise, extreme, level, loadF16, SUPER_BLOCK, storeF16 } from './blocks.ts';
import { CodeBook, evenSigns, evenSignsOf, scaledMagnitudes, signsOf } from './code-book.ts';

const xxs = new CodeBook('iq3_xxs', [4, 12, 20, 28, 36, 44, 52, 62]);
const s = new CodeBook('iq3_s', [1, 3, 5, 7, 9, 11, 13, 15]);
const scratch = new Float32Array(4);

/** Four elements of an entry; `signs` has their bits lowest. */
function put(book: CodeBook, entry: number, scale: number, signs: number, out: Float32Array, to: number): void {
  for (let i = 0; i < 4; i++) out[to + i] = ((signs >> i) & 1) === 1 ? -scale * book.values[4 * entry + i] : scale * book.values[4 * entry + i];
}

function find(book: CodeBook, values: Float32Array, from: number, step: number): number {
  scaledMagnitudes(values, from, 4, step, scratch);
  return book.search(scratch, 0);
}

/** The largest magnitude of each group of 32. */
function largest(values: Float32Array, from: number): number[] {
  return Array.from({ length: 8 }, (_, j) => Math.abs(extreme(values, from + 32 * j, 32)));
}

/**
 * Super-blocks of 256 in 98 bytes: f16 `d`, 64 indices of a book of 256 runs of four magnitudes, and for each group of 32 a word of four times seven sign
 * bits and a 4-bit scale. `value = d / 2 * (scale + 0.5) * magnitude`. The IQ3_XXS of GGUF files.
 */
export const iq3_xxs = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 98,
  decode(bytes, at, out, to) {
    const half = loadF16(bytes, at) / 2;
    for (let j = 0; j < 8; j++) {
      const p = at + 66 + 4 * j;
      const word = bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24);
      const scale = half * ((word >>> 28) + 0.5);
      for (let k = 0; k < 8; k++) {
        const signs = evenSigns((word >> (7 * (k >> 1))) & 127) >> (4 * (k & 1));
        put(xxs, bytes[at + 2 + 8 * j + k], scale, signs, out, to + 32 * j + 4 * k);
      }
    }
  },
  encode(values, from, bytes, at) {
    const steps = largest(values, from).map((most) => most / 62);
    const half = storeF16(bytes, at, (Math.max(...steps) * 2) / 15.5) / 2;
    steps.forEach((step, j) => {
      const scale = level(step - half / 2, half, 0, 15);
      let word = scale << 28;
      for (let k = 0; k < 8; k++) bytes[at + 2 + 8 * j + k] = find(xxs, values, from + 32 * j + 4 * k, half * (scale + 0.5));
      for (let k = 0; k < 4; k++) word |= evenSignsOf(values, from + 32 * j + 8 * k) << (7 * k);
      for (let i = 0; i < 4; i++) bytes[at + 66 + 4 * j + i] = (word >>> (8 * i)) & 255;
    });
  },
});

/**
 * Super-blocks of 256 in 110 bytes: f16 `d`, 64 low bytes of indices of a book of 512 runs of four magnitudes, eight bytes of their high bits, 32 bytes of
 * signs, four bytes of two 4-bit scales of groups of 32. `value = d * (2 * scale + 1) * magnitude`. The IQ3_S of GGUF files.
 */
export const iq3_s = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 110,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at);
    for (let k = 0; k < 64; k++) {
      const j = k >> 3;
      const entry = bytes[at + 2 + k] | (((bytes[at + 66 + j] >> (k & 7)) & 1) << 8);
      const scale = d * (2 * ((bytes[at + 106 + (j >> 1)] >> (4 * (j & 1))) & 15) + 1);
      put(s, entry, scale, bytes[at + 74 + (k >> 1)] >> (4 * (k & 1)), out, to + 4 * k);
    }
  },
  encode(values, from, bytes, at) {
    const steps = largest(values, from).map((most) => most / 15);
    const d = storeF16(bytes, at, Math.max(...steps) / 31);
    steps.forEach((step, j) => {
      const scale = level((step - d) / 2, d, 0, 15);
      bytes[at + 106 + (j >> 1)] |= scale << (4 * (j & 1));
      for (let k = 0; k < 8; k++) {
        const entry = find(s, values, from + 32 * j + 4 * k, d * (2 * scale + 1));
        bytes[at + 2 + 8 * j + k] = entry & 255;
        bytes[at + 66 + j] |= (entry >> 8) << k;
      }
      for (let k = 0; k < 4; k++) bytes[at + 74 + 4 * j + k] = signsOf(values, from + 32 * j + 8 * k);
    });
  },
});
