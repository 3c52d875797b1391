import { blockwise, extreme, loadF16, storeF16 } from './blocks.ts';

const GROUP = 32;

/**
 * Groups of 32 in 22 bytes: f16 scale, 32 fifth bits (bit i for element i), 16 bytes of nibbles as in Q4_0. `value = scale * (level - 16)`.
 * The Q5_0 of GGUF files.
 */
export const q5_0 = blockwise({
  blockElements: GROUP,
  blockBytes: 22,
  decode(bytes, at, out, to) {
    const scale = loadF16(bytes, at);
    for (let i = 0; i < GROUP; i++) {
      const low = (bytes[at + 6 + (i & 15)] >> (i >= 16 ? 4 : 0)) & 15;
      const high = (bytes[at + 2 + (i >> 3)] >> (i & 7)) & 1;
      out[to + i] = scale * ((low | (high << 4)) - 16);
    }
  },
  /** The element of the largest magnitude becomes -16. */
  encode(values, from, bytes, at) {
    const scale = Math.fround(extreme(values, from, GROUP) / -16);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    storeF16(bytes, at, scale);
    for (let i = 0; i < GROUP; i++) {
      const level = Math.max(0, Math.min(31, Math.trunc(values[from + i] * inverse + 16.5)));
      bytes[at + 6 + (i & 15)] |= (level & 15) << (i >= 16 ? 4 : 0);
      bytes[at + 2 + (i >> 3)] |= (level >> 4) << (i & 7);
    }
  },
});
