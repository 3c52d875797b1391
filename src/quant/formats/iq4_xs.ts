import { blockwise, extreme, level, loadF16, nearest, SUPER_BLOCK, storeF16 } from './blocks.ts';
import { unevenLevels } from './iq4_nl.ts';

/**
 * Super-blocks of 256 in 136 bytes: f16 `d`, 16 high bit pairs and 4 bytes of low nibbles of eight 6-bit scales, 128 bytes of nibbles: 16 for each group
 * of 32, as in IQ4_NL. `value = d * (scale - 32) * unevenLevels[nibble]`. The IQ4_XS of GGUF files.
 */
export const iq4_xs = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 136,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at);
    for (let j = 0; j < 8; j++) {
      const low = (bytes[at + 4 + (j >> 1)] >> (4 * (j & 1))) & 15;
      const high = (bytes[at + 2 + (j >> 2)] >> (2 * (j & 3))) & 3;
      const scale = d * ((low | (high << 4)) - 32);
      for (let i = 0; i < 16; i++) {
        const byte = bytes[at + 8 + 16 * j + i];
        out[to + 32 * j + i] = scale * unevenLevels[byte & 15];
        out[to + 32 * j + 16 + i] = scale * unevenLevels[byte >> 4];
      }
    }
  },
  encode(values, from, bytes, at) {
    const steps = Array.from({ length: 8 }, (_, j) => extreme(values, from + 32 * j, 32) / -127);
    const d = storeF16(bytes, at, Math.max(...steps.map(Math.abs)) / 31);
    steps.forEach((step, j) => {
      const scale = level(step, d, -31, 31);
      bytes[at + 4 + (j >> 1)] |= ((scale + 32) & 15) << (4 * (j & 1));
      bytes[at + 2 + (j >> 2)] |= ((scale + 32) >> 4) << (2 * (j & 3));
      for (let i = 0; i < 32; i++) {
        const index = nearest(unevenLevels, scale === 0 || d === 0 ? 0 : values[from + 32 * j + i] / (d * scale));
        bytes[at + 8 + 16 * j + (i & 15)] |= index << (i < 16 ? 0 : 4);
      }
    });
  },
});
