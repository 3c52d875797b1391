import { blockwise, level, loadF16, range, SUPER_BLOCK, storeF16 } from './blocks.ts';

/**
 * Super-blocks of 256 in 84 bytes: 16 bytes of a 4-bit scale (low) and a 4-bit minimum (high) of groups of 16, 64 bytes of bit pairs, f16 `d`, f16 `dmin`.
 * `value = d * scale * pair - dmin * minimum`. The Q2_K of GGUF files.
 */
export const q2_k = blockwise({
  blockElements: SUPER_BLOCK,
  blockBytes: 84,
  decode(bytes, at, out, to) {
    const d = loadF16(bytes, at + 80);
    const dmin = loadF16(bytes, at + 82);
    for (let i = 0; i < SUPER_BLOCK; i++) {
      const scales = bytes[at + (i >> 4)];
      const pair = (bytes[at + 16 + 32 * (i >> 7) + (i & 31)] >> (2 * ((i >> 5) & 3))) & 3;
      out[to + i] = d * (scales & 15) * pair - dmin * (scales >> 4);
    }
  },
  encode(values, from, bytes, at) {
    const groups = Array.from({ length: 16 }, (_, g) => {
      const { least, most } = range(values, from + 16 * g, 16);
      const minimum = Math.max(0, -least);
      return { minimum, step: Math.max(0, most + minimum) / 3 };
    });
    const d = storeF16(bytes, at + 80, Math.max(...groups.map((group) => group.step)) / 15);
    const dmin = storeF16(bytes, at + 82, Math.max(...groups.map((group) => group.minimum)) / 15);
    groups.forEach(({ step, minimum }, g) => {
      const scale = level(step, d, 0, 15);
      const minimums = level(minimum, dmin, 0, 15);
      bytes[at + g] = scale | (minimums << 4);
      for (let i = 16 * g; i < 16 * g + 16; i++) {
        const pair = level(values[from + i] + dmin * minimums, d * scale, 0, 3);
        bytes[at + 16 + 32 * (i >> 7) + (i & 31)] |= pair << (2 * ((i >> 5) & 3));
      }
    });
  },
});
