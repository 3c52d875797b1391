import { blockwise, loadF16, SUPER_BLOCK } from './blocks.ts';
import { encodeAffineGroups, minimumOf, scaleOf } from './k-scales.ts';

/**
 * Super-blocks of 256 in 176 bytes: as Q4_K, with 32 bytes of fifth bits (bit j of byte i for element i of group j) before the nibbles.
 * The Q5_K of GGUF files.
 */
export const q5_k = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 176,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at);
    const dmin = loadF16(bytes, at + 2);
    for (let j = 0; j < 8; j++) {
      const scale = d * scaleOf(bytes, at + 4, j);
      const minimum = dmin * minimumOf(bytes, at + 4, j);
      const nibbles = at + 48 + 32 * (j >> 1);
      const shift = 4 * (j & 1);
      for (let i = 0; i < 32; i++) {
        const level = ((bytes[nibbles + i] >> shift) & 15) | (((bytes[at + 16 + i] >> j) & 1) << 4);
        out[to + 32 * j + i] = scale * level - minimum;
      }
    }
  },
  encode(values, from, bytes, at) {
    encodeAffineGroups(values, from, bytes, at, 31, (i, level) => {
      bytes[at + 48 + 32 * (i >> 6) + (i & 31)] |= (level & 15) << (4 * ((i >> 5) & 1));
      bytes[at + 16 + (i & 31)] |= (level >> 4) << (i >> 5);
    });
  },
});
