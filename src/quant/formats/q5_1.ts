import { blockwise, loadF16, range, storeF16 } from './blocks.ts';

const GROUP = 32;

/**
 * Groups of 32 in 24 bytes: f16 scale, f16 minimum, 32 fifth bits, 16 bytes of nibbles as in Q4_0. `value = scale * level + minimum`.
 * The Q5_1 of GGUF files.
 */
export const q5_1 = blockwise({
  blockElements: GROUP,
  blockBytes: 24,
  decode(bytes, at, out, to) {
    const scale = loadF16(bytes, at);
    const minimum = loadF16(bytes, at + 2);
    for (let i = 0; i < GROUP; i++) {
      const low = (bytes[at + 8 + (i & 15)] >> (i >= 16 ? 4 : 0)) & 15;
      const high = (bytes[at + 4 + (i >> 3)] >> (i & 7)) & 1;
      out[to + i] = scale * (low | (high << 4)) + minimum;
    }
  },
  encode(values, from, bytes, at) {
    const { least, most } = range(values, from, GROUP);
    const scale = Math.fround(Math.fround(most - least) / 31);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    storeF16(bytes, at, scale);
    storeF16(bytes, at + 2, least);
    for (let i = 0; i < GROUP; i++) {
      const steps = Math.fround(Math.fround(values[from + i] - least) * inverse);
      const level = Math.min(31, Math.trunc(Math.fround(steps + 0.5)));
      bytes[at + 8 + (i & 15)] |= (level & 15) << (i >= 16 ? 4 : 0);
      bytes[at + 4 + (i >> 3)] |= (level >> 4) << (i & 7);
    }
  },
});
