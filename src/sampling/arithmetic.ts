/**
 * The arithmetic of sampling: exp, log and sums in f32 with every operation and its order fixed, so that C++ (no fused multiply-add, no
 * fast-math) gives the same bits. `Math.fround` of a sum, product or quotient of two f32 numbers is the f32 operation exactly. `(a * b) + c`
 * below always rounds twice. `native/common/sampling_math.h` mirrors this file line by line.
 */

const f = Math.fround;

const LOG2_E = f(1.44269502);
/** ln 2 in two pieces; the first has few bits, so that its product with an exponent is exact. */
const LN2_HIGH = f(0.693359375);
const LN2_LOW = f(-0.000212194442);
/** 1.5 * 2^23: adding and subtracting it rounds a small number to the nearest integer, ties to even. */
const ROUNDER = f(12582912);
/** Below this exp counts as 0. Everything above is a normal number. */
export const EXP_MIN = -87;

/** Minimax fit of (exp(r) - 1 - r) / r^2 on +-ln(2)/2, highest power first. */
const EXP = [0.000199178307, 0.00139460864, 0.00833326578, 0.0416662693, 0.166666672, 0.5].map(f);
const [E5, E4, E3, E2, E1, E0] = EXP;

/** 2^n for n in [-126, 0], at index n + 126. */
const POWERS = Float32Array.from({ length: 127 }, (_, i) => 2 ** (i - 126));

/** exp(x) for f32 x <= 0; 0 below -87, -Infinity included. Within 2 units in the last place. */
export function expF32(x: number): number {
  if (!(x >= EXP_MIN)) return 0;
  const n = f(f(f(x * LOG2_E) + ROUNDER) - ROUNDER);
  const r = f(f(x - f(n * LN2_HIGH)) - f(n * LN2_LOW));
  let p = E5;
  p = f(f(p * r) + E4);
  p = f(f(p * r) + E3);
  p = f(f(p * r) + E2);
  p = f(f(p * r) + E1);
  p = f(f(p * r) + E0);
  p = f(f(f(p * f(r * r)) + r) + 1);
  return f(p * POWERS[n + 126]);
}

const SQRT_HALF = f(0.707106769);
/** Minimax fit of (log(1 + m) - m + m^2 / 2) / m^3 on [sqrt(1/2) - 1, sqrt(2) - 1], highest power first. */
const LOG = [0.0691557825, -0.117887996, 0.118723094, -0.123844944, 0.142187804, -0.166692451, 0.200022191, -0.249999866, 0.333333105].map(f);
const [L8, L7, L6, L5, L4, L3, L2, L1, L0] = LOG;

const floatScratch = new Float32Array(1);
const bitsScratch = new Int32Array(floatScratch.buffer);

/** log(x) for a positive normal f32 x. Within 2 units in the last place, away from 1. */
export function logF32(x: number): number {
  floatScratch[0] = x;
  const bits = bitsScratch[0];
  let exponent = (bits >>> 23) - 126;
  bitsScratch[0] = (bits & 0x007fffff) | 0x3f000000; // the same digits in [0.5, 1)
  let m = floatScratch[0];
  if (m < SQRT_HALF) {
    exponent -= 1;
    m = f(f(m + m) - 1);
  } else {
    m = f(m - 1);
  }
  const square = f(m * m);
  let p = L8;
  p = f(f(p * m) + L7);
  p = f(f(p * m) + L6);
  p = f(f(p * m) + L5);
  p = f(f(p * m) + L4);
  p = f(f(p * m) + L3);
  p = f(f(p * m) + L2);
  p = f(f(p * m) + L1);
  p = f(f(p * m) + L0);
  let y = f(f(p * m) * square);
  y = f(y + f(exponent * LN2_LOW));
  y = f(y - f(0.5 * square));
  return f(f(m + y) + f(exponent * LN2_HIGH));
}

/** Elements in one block of a blocked sum. */
export const SUM_BLOCK = 1024;
const LANES = 16;
const lanes = new Float32Array(LANES);

/**
 * Sum of `values[begin, end)`, at most SUM_BLOCK of them: lane l adds, from 0, the elements `begin + l, begin + l + 16, ...` in order; then lanes
 * are folded in halves: l += l + 8, l += l + 4, l += l + 2, l += l + 1.
 */
export function sumLanes(values: Float32Array, begin: number, end: number): number {
  lanes.fill(0);
  const whole = begin + Math.floor((end - begin) / LANES) * LANES;
  for (let i = begin; i < whole; i += LANES) for (let l = 0; l < LANES; l++) lanes[l] += values[i + l];
  for (let i = whole; i < end; i++) lanes[i - whole] += values[i];
  for (let width = LANES / 2; width >= 1; width /= 2) for (let l = 0; l < width; l++) lanes[l] += lanes[l + width];
  return lanes[0];
}

/** Sum of `values[0, length)`: blocks of SUM_BLOCK by `sumLanes`, added in order. Block sums go to `blockSums` where given. */
export function sumBlocks(values: Float32Array, length: number, blockSums?: Float32Array): number {
  let sum = 0;
  for (let begin = 0, block = 0; begin < length; begin += SUM_BLOCK, block++) {
    const blockSum = sumLanes(values, begin, Math.min(length, begin + SUM_BLOCK));
    if (blockSums !== undefined) blockSums[block] = blockSum;
    sum = f(sum + blockSum);
  }
  return sum;
}
