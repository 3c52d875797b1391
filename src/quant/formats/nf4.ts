import { blockwise, extreme, nearest } from './blocks.ts';
import { loadF32, storeF32 } from './integer-groups.ts';

const GROUP = 64;

/** Quantiles of a normal distribution scaled to [-1, 1], with an exact 0: Dettmers et al., "QLoRA" (2023), appendix E. */
export const nf4Levels: readonly number[] = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
].map(Math.fround);

/**
 * NormalFloat: groups of 64 in 36 bytes: the largest magnitude as f32, then 4-bit indices of levels, the earlier of two elements in the high nibble (the order
 * of bitsandbytes). `value = largest * level`, rounded to f32 once.
 */
export const nf4 = blockwise({
  blockElements: GROUP,
  blockBytes: 36,
  decode(bytes, at, out, to) {
    const largest = loadF32(bytes, at);
    for (let i = 0; i < GROUP / 2; i++) {
      out[to + 2 * i] = largest * nf4Levels[bytes[at + 4 + i] >> 4];
      out[to + 2 * i + 1] = largest * nf4Levels[bytes[at + 4 + i] & 15];
    }
  },
  encode(values, from, bytes, at) {
    const largest = Math.abs(extreme(values, from, GROUP));
    storeF32(bytes, at, largest);
    const code = (value: number) => nearest(nf4Levels, largest === 0 ? 0 : value / largest);
    for (let i = 0; i < GROUP / 2; i++) bytes[at + 4 + i] = (code(values[from + 2 * i]) << 4) | code(values[from + 2 * i + 1]);
  },
});
