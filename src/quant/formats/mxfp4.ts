import { blockwise, extreme, nearest } from './blocks.ts';

const GROUP = 32;

/** Twice the values of the 4-bit float E2M1, by its 3 bits of magnitude. */
const magnitudes = [0, 1, 2, 3, 4, 6, 8, 12] as const;

/**
 * Groups of 32 in 17 bytes: a power-of-two scale (E8M0: exponent + 127; 255 is NaN), then 4-bit floats (E2M1, sign in the top bit), in nibbles as Q4_0. OCP
 * Microscaling Formats 1.0; the MXFP4 of GGUF files.
 */
export const mxfp4 = blockwise({
  blockElements: GROUP,
  blockBytes: 17,
  decode(bytes, at, out, to) {
    const half = bytes[at] === 255 ? NaN : 2 ** (bytes[at] - 128);
    for (let i = 0; i < 16; i++) {
      const byte = bytes[at + 1 + i];
      out[to + i] = half * doubled(byte & 15);
      out[to + 16 + i] = half * doubled(byte >> 4);
    }
  },
  /** The exponent is that of the largest magnitude, less the two of the largest level. */
  encode(values, from, bytes, at) {
    const largest = Math.abs(extreme(values, from, GROUP));
    const exponent = largest === 0 ? 0 : Math.max(0, Math.min(254, Math.floor(Math.log2(largest)) - 2 + 127));
    const half = 2 ** (exponent - 128);
    bytes[at] = exponent;
    const code = (value: number) => nearest(magnitudes, Math.abs(value) / half) | (value < 0 ? 8 : 0);
    for (let i = 0; i < 16; i++) bytes[at + 1 + i] = code(values[from + i]) | (code(values[from + 16 + i]) << 4);
  },
});

function doubled(code: number): number {
  const magnitude = magnitudes[code & 7];
  return code < 8 || magnitude === 0 ? magnitude : -magnitude;
}
