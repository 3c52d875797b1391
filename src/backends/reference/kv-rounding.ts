/** What K and V become when they are stored: each number type, on the head of a token. All arithmetic is f32, so that every backend has these bits. */
import { bf16ToNumber, f16ToNumber, numberToBf16, numberToF16, roundToBf16 } from '../../base/dtype.ts';
import { e4m3Values, numberToE4m3 } from '../../quant/formats/fp8.ts';
import type { KvDtype } from '../backend.ts';

/** Rounds `length` numbers from `x[from]` on into `out[at ...]`, which may be the same place. Returns the scale that the head is stored under, or 1. */
export type HeadRounding = (x: Float32Array, from: number, length: number, out: Float32Array, at: number) => number;

const { fround } = Math;

function each(round: (x: number) => number): HeadRounding {
  return (x, from, length, out, at) => {
    for (let i = 0; i < length; i++) out[at + i] = round(x[from + i]);
    return 1;
  };
}

/** To an integer, ties to even, as f32 addition rounds; for magnitudes below 2^22. */
function toInteger(x: number): number {
  return fround(fround(x) + 12582912) - 12582912;
}

/** The largest magnitude; NaN when a number is not finite: such a head is stored as NaN throughout, and whoever reads it knows. */
function largestOf(x: Float32Array, from: number, length: number): number {
  let largest = 0;
  for (let i = from; i < from + length; i++) {
    if (!Number.isFinite(x[i])) return NaN;
    largest = Math.max(largest, Math.abs(x[i]));
  }
  return largest;
}

/** bf16 scale = largest / 127; levels -127..127. A scale of eight bits makes `scale * level` exact in f32. */
const int8: HeadRounding = (x, from, length, out, at) => {
  const scale = bf16ToNumber(numberToBf16(fround(largestOf(x, from, length) / 127)));
  for (let i = 0; i < length; i++) {
    const level = scale === 0 ? 0 : toInteger(Math.min(127, Math.max(-127, fround(x[from + i] / scale))));
    out[at + i] = scale * level;
  }
  return scale;
};

const f32Scratch = new Float32Array(1);
const u32Scratch = new Uint32Array(f32Scratch.buffer);

/**
 * E4M3 under the least power of two that brings the largest magnitude to 448 or below (normal, and below 2^120). A power of two changes no relative error: it
 * only keeps large keys from saturating and small values from becoming subnormal.
 */
const fp8: HeadRounding = (x, from, length, out, at) => {
  const largest = largestOf(x, from, length);
  f32Scratch[0] = largest;
  const exponent = Math.min(254, (u32Scratch[0] + 0x1fffff) >>> 23); // carries beyond 1.75 * 2^n
  const scale = Number.isNaN(largest) ? NaN : 2 ** (Math.max(1, exponent - 8) - 127);
  for (let i = 0; i < length; i++) out[at + i] = scale * e4m3Values[numberToE4m3(x[from + i] / scale)];
  return scale;
};

/**
 * Levels 0..15 less a zero point, which is a level, over the range of the head with 0 in it; bf16 scale = range / 15. K of a trained model leans to one side
 * in each channel, so a symmetric format would spend levels on numbers that there are not.
 */
const int4: HeadRounding = (x, from, length, out, at) => {
  const isBroken = Number.isNaN(largestOf(x, from, length));
  let low = 0;
  let high = 0;
  for (let i = from; i < from + length; i++) {
    low = Math.max(low, -x[i]);
    high = Math.max(high, x[i]);
  }
  const scale = isBroken ? NaN : bf16ToNumber(numberToBf16(fround(fround(high / 15) + fround(low / 15))));
  const zero = scale === 0 ? 0 : toInteger(Math.min(15, fround(low / scale)));
  for (let i = 0; i < length; i++) {
    const level = scale === 0 ? 0 : toInteger(Math.min(15, Math.max(-15, fround(x[from + i] / scale))));
    out[at + i] = scale * (Math.max(0, Math.min(15, level + zero)) - zero);
  }
  return scale;
};

export const kvRounding: Readonly<Record<KvDtype, HeadRounding>> = {
  f32: each((x) => x),
  f16: each((x) => f16ToNumber(numberToF16(x))),
  bf16: each(roundToBf16),
  int8,
  fp8,
  int4,
};
