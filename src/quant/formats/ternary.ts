import { blockwise, extreme, loadF16, SUPER_BLOCK, storeF16 } from './blocks.ts';

/** -1, 0 or 1; halves go away from zero, as in ggml. */
function digit(value: number, largest: number): number {
  if (largest === 0) return 0;
  return Math.abs(Math.fround(value * Math.fround(1 / largest))) >= 0.5 ? Math.sign(value) : 0;
}

/** Where the digits of a TQ1_0 block lie: runs of bytes, each holding five digits (four, in the last) of elements a run apart. */
const runs = [
  { byte: 0, bytes: 32, element: 0, digits: 5 },
  { byte: 32, bytes: 16, element: 160, digits: 5 },
  { byte: 48, bytes: 4, element: 240, digits: 4 },
] as const;
const powers = [1, 3, 9, 27, 81];

/**
 * Super-blocks of 256 in 54 bytes: 52 bytes of five ternary digits each (four in the last four), as the fraction 256 / 243 of their number, f16 `d`.
 * `value = d * digit`. The TQ1_0 of GGUF files.
 */
export const tq1_0 = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 54,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at + 52);
    for (const run of runs) {
      for (let n = 0; n < run.digits; n++) {
        for (let m = 0; m < run.bytes; m++) {
          const fraction = (bytes[at + run.byte + m] * powers[n]) & 255;
          out[to + run.element + run.bytes * n + m] = d * (((fraction * 3) >> 8) - 1);
        }
      }
    }
  },
  encode(values, from, bytes, at) {
    const largest = Math.abs(extreme(values, from, SUPER_BLOCK));
    storeF16(bytes, at + 52, largest);
    for (const run of runs) {
      for (let m = 0; m < run.bytes; m++) {
        let number = 0;
        for (let n = 0; n < run.digits; n++) number += (digit(values[from + run.element + run.bytes * n + m], largest) + 1) * powers[4 - n];
        bytes[at + run.byte + m] = Math.floor((number * 256 + 242) / 243);
      }
    }
  },
});

/** Super-blocks of 256 in 66 bytes: 64 bytes of bit pairs, f16 `d`. `value = d * (pair - 1)`. The TQ2_0 of GGUF files. */
export const tq2_0 = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 66,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at + 64);
    for (let i = 0; i < SUPER_BLOCK; i++) out[to + i] = d * (((bytes[at + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3) - 1);
  },
  encode(values, from, bytes, at) {
    const largest = Math.abs(extreme(values, from, SUPER_BLOCK));
    storeF16(bytes, at + 64, largest);
    for (let i = 0; i < SUPER_BLOCK; i++) {
      bytes[at + 32 * (i >> 7) + (i & 31)] |= (digit(values[from + i], largest) + 1) << (2 * ((i >> 5) & 3));
    }
  },
});
