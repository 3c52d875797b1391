import { blockwise, loadF16, range, storeF16 } from './blocks.ts';

const GROUP = 32;

/** Groups of 32 in 20 bytes: f16 scale, f16 minimum, 16 bytes of nibbles as in Q4_0. `value = scale * nibble + minimum`. The Q4_1 of GGUF files. */
export const q4_1 = blockwise({
  blockElements: GROUP,
  blockBytes: 20,
  decode(bytes, at, out, to) {
    const scale = loadF16(bytes, at);
    const minimum = loadF16(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 4 + i];
      out[to + i] = scale * (byte & 15) + minimum;
      out[to + 16 + i] = scale * (byte >> 4) + minimum;
    }
  },
  encode(values, from, bytes, at) {
    const { least, most } = range(values, from, GROUP);
    const scale = Math.fround(Math.fround(most - least) / 15);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    storeF16(bytes, at, scale);
    storeF16(bytes, at + 2, least);
    const nibble = (value: number) => Math.min(15, Math.trunc(Math.fround(Math.fround(Math.fround(value - least) * inverse) + 0.5)));
    for (let i = 0; i < 16; i++) bytes[at + 4 + i] = nibble(values[from + i]) | (nibble(values[from + 16 + i]) << 4);
  },
});
