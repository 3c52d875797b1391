import { blockwise, extreme, level, loadF16, SUPER_BLOCK, storeF16 } from './blocks.ts';

/**
 * Super-blocks of 256 in 210 bytes: 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales of groups of 16, f16 `d`.
 * `value = d * scale * (level - 32)`. Each half of 128 elements has its own 64 and 32 bytes; its groups of 32 lie in the nibbles as
 * (low of the first 32 bytes, low of the second, high of the first, high of the second) and in the bit pairs from the lowest up. The Q6_K of GGUF files.
 */
export const q6_k = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 210,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at + 208);
    for (let i = 0; i < SUPER_BLOCK; i++) {
      const { nibbles, nibbleShift, pairs, pairShift } = place(i);
      const stored = ((bytes[at + nibbles] >> nibbleShift) & 15) | (((bytes[at + pairs] >> pairShift) & 3) << 4);
      const scale = (bytes[at + 192 + (i >> 4)] << 24) >> 24;
      out[to + i] = d * scale * (stored - 32);
    }
  },
  /** The element of the largest magnitude of each 16 becomes -32, scales permitting. */
  encode(values, from, bytes, at) {
    const steps = Array.from({ length: 16 }, (_, g) => extreme(values, from + 16 * g, 16) / -32);
    const d = storeF16(bytes, at + 208, Math.max(...steps.map(Math.abs)) / 127);
    for (let i = 0; i < SUPER_BLOCK; i++) {
      const scale = level(steps[i >> 4], d, -127, 127);
      bytes[at + 192 + (i >> 4)] = scale;
      const stored = level(values[from + i], d * scale, -32, 31) + 32;
      const { nibbles, nibbleShift, pairs, pairShift } = place(i);
      bytes[at + nibbles] |= (stored & 15) << nibbleShift;
      bytes[at + pairs] |= (stored >> 4) << pairShift;
    }
  },
});

/** Bytes of a block, and shifts in them, that hold element `i`. */
function place(i: number): { nibbles: number; nibbleShift: number; pairs: number; pairShift: number } {
  const half = i >> 7;
  const group = (i >> 5) & 3;
  const within = i & 31;
  return { nibbles: 64 * half + 32 * (group & 1) + within, nibbleShift: 4 * (group >> 1), pairs: 128 + 32 * half + within, pairShift: 2 * group };
}
