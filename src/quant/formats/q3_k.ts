import { blockwise, extreme, level, loadF16, SUPER_BLOCK, storeF16 } from './blocks.ts';

/**
 * Super-blocks of 256 in 110 bytes: 32 bytes of third bits (bit j of byte i for element i of group j of 32), 64 bytes of low bit pairs, 12 bytes of
 * 6-bit scales of groups of 16, f16 `d`. `value = d * (scale - 32) * (level - 4)`. The Q3_K of GGUF files.
 */
export const q3_k = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 110,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at + 108);
    for (let i = 0; i < SUPER_BLOCK; i++) {
      const scale = d * (scaleOf(bytes, at + 96, i >> 4) - 32);
      const low = (bytes[at + 32 + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
      const high = (bytes[at + (i & 31)] >> (i >> 5)) & 1;
      out[to + i] = scale * ((low | (high << 2)) - 4);
    }
  },
  /** The element of the largest magnitude of each 16 becomes -4, scales permitting. */
  encode(values, from, bytes, at) {
    const steps = Array.from({ length: 16 }, (_, g) => extreme(values, from + 16 * g, 16) / -4);
    const d = storeF16(bytes, at + 108, Math.max(...steps.map(Math.abs)) / 31);
    const scales = steps.map((step) => level(step, d, -31, 31));
    scales.forEach((scale, g) => {
      const stored = scale + 32;
      bytes[at + 96 + (g & 7)] |= (stored & 15) << (g < 8 ? 0 : 4);
      bytes[at + 104 + (g & 3)] |= (stored >> 4) << (2 * (g >> 2));
    });
    for (let i = 0; i < SUPER_BLOCK; i++) {
      const stored = level(values[from + i], d * scales[i >> 4], -4, 3) + 4;
      bytes[at + 32 + 32 * (i >> 7) + (i & 31)] |= (stored & 3) << (2 * ((i >> 5) & 3));
      bytes[at + (i & 31)] |= (stored >> 2) << (i >> 5);
    }
  },
});

/** 6-bit scale of group `g` of 16: low nibbles in the first 8 bytes, high bit pairs in the last 4. */
function scaleOf(bytes: Uint8Array, at: number, g: number): number {
  return ((bytes[at + (g & 7)] >> (g < 8 ? 0 : 4)) & 15) | (((bytes[at + 8 + (g & 3)] >> (2 * (g >> 2))) & 3) << 4);
}
