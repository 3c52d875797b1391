import { blockwise, loadF16, SUPER_BLOCK } from './blocks.ts';
import { encodeAffineGroups, minimumOf, scaleOf } from './k-scales.ts';

/**
 * Super-blocks of 256 in 144 bytes: f16 `d`, f16 `dmin`, 12 bytes of 6-bit scales and minimums of eight groups of 32, 128 bytes of nibbles: 32 bytes for
 * each two groups, the first in the low nibbles. `value = d * scale * nibble - dmin * minimum`. The Q4_K of GGUF files.
 */
export const q4_k = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 144,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at);
    const dmin = loadF16(bytes, at + 2);
    for (let j = 0; j < 8; j++) {
      const scale = d * scaleOf(bytes, at + 4, j);
      const minimum = dmin * minimumOf(bytes, at + 4, j);
      const nibbles = at + 16 + 32 * (j >> 1);
      const shift = 4 * (j & 1);
      for (let i = 0; i < 32; i++) out[to + 32 * j + i] = scale * ((bytes[nibbles + i] >> shift) & 15) - minimum;
    }
  },
  encode(values, from, bytes, at) {
    encodeAffineGroups(values, from, bytes, at, 15, (i, level) => {
      bytes[at + 16 + 32 * (i >> 6) + (i & 31)] |= level << (4 * ((i >> 5) & 1));
    });
  },
});
