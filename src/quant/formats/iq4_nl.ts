import { blockwise, extreme, loadF16, nearest, storeF16 } from './blocks.ts';

const GROUP = 32;

/** The 16 levels of IQ4_NL and IQ4_XS: denser near zero. */
export const unevenLevels = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113] as const;

/** Groups of 32 in 18 bytes, laid out as Q4_0; a nibble is an index of `unevenLevels`. The IQ4_NL of GGUF files. */
export const iq4_nl = blockwise({
  blockElements: GROUP,
  blockBytes: 18,
  decode(bytes, at, out, to) {
    const scale = loadF16(bytes, at);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 2 + i];
      out[to + i] = scale * unevenLevels[byte & 15];
      out[to + 16 + i] = scale * unevenLevels[byte >> 4];
    }
  },
  /** The element of the largest magnitude becomes -127. */
  encode(values, from, bytes, at) {
    const scale = storeF16(bytes, at, extreme(values, from, GROUP) / -127);
    const index = (value: number) => nearest(unevenLevels, scale === 0 ? 0 : value / scale);
    for (let i = 0; i < 16; i++) bytes[at + 2 + i] = index(values[from + i]) | (index(values[from + 16 + i]) << 4);
  },
});
