import { blockwise, extreme, loadF16, storeF16 } from './blocks.ts';

const GROUP = 32;

/**
 * Groups of 32 in 18 bytes: f16 scale, then 16 bytes whose low nibbles are the first half and whose high nibbles the second.
 * `value = scale * (nibble - 8)`. The Q4_0 of GGUF files.
 */
export const q4_0 = blockwise({
  blockElements: GROUP,
  blockBytes: 18,
  decode(bytes, at, out, to) {
    const scale = loadF16(bytes, at);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 2 + i];
      out[to + i] = scale * ((byte & 15) - 8);
      out[to + 16 + i] = scale * ((byte >> 4) - 8);
    }
  },
  /** The element of the largest magnitude becomes -8. */
  encode(values, from, bytes, at) {
    const scale = Math.fround(extreme(values, from, GROUP) / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    storeF16(bytes, at, scale);
    for (let i = 0; i < 16; i++) bytes[at + 2 + i] = nibble(values[from + i] * inverse) | (nibble(values[from + 16 + i] * inverse) << 4);
  },
});

function nibble(steps: number): number {
  return Math.max(0, Math.min(15, Math.trunc(steps + 8.5)));
}
