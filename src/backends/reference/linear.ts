import { roundToBf16 } from '../../base/dtype.ts';
import { invariant } from '../../base/errors.ts';
import { LINEAR_SEGMENT } from '../../plan/ops/linear.ts';
import type { Activation } from '../../plan/plan.ts';
import type { Matrix, ReferenceKernel } from './kernel.ts';

/**
 * `x` rounded as the activation says; the weight expanded to f32. Each segment of K is summed from zero in f64, segments are added in order in
 * f64, then the bias; one rounding to f32 at the end. The order is the same at every row count.
 */
export const linear: ReferenceKernel<'linear'> = ({ inputs: [x], outputs: [out], weights: [weight, bias], attrs }, numRows) => {
  invariant(weight !== null, 'linear needs its weight');
  const values = roundRows(x, numRows, attrs.activation);
  multiplyRows({ rounded: values, stride: x.width, at: 0, k: x.width }, weight, bias ?? null, out, 0, out.width, numRows);
};

/** The rows of `x` as the activation rounds them, `[numRows, x.width]`. The array is reused by the next call. */
export function roundRows(x: Matrix, numRows: number, activation: Activation): Float64Array {
  const k = x.width;
  if (rounded.length < numRows * k) rounded = new Float64Array(numRows * k);
  for (let row = 0; row < numRows; row++) {
    const from = x.offset + row * x.stride;
    roundActivation(activation, x.data.subarray(from, from + k), rounded.subarray(row * k, (row + 1) * k));
  }
  return rounded;
}

/** Columns `[at, at + k)` of rounded rows that are `stride` apart. */
interface RoundedColumns {
  readonly rounded: Float64Array;
  readonly stride: number;
  readonly at: number;
  readonly k: number;
}

/** Outputs `[begin, end)` of all rows: the columns times rows `[begin, end)` of the weight `[outputs, k]`, and the bias. */
export function multiplyRows(
  { rounded, stride, at, k }: RoundedColumns,
  weight: Float32Array,
  bias: Float32Array | null,
  out: Matrix,
  begin: number,
  end: number,
  numRows: number,
): void {
  if (weightRow.length < k) weightRow = new Float64Array(k);
  for (let n = begin; n < end; n++) {
    const start = bias === null ? 0 : bias[n];
    for (let i = 0; i < k; i++) weightRow[i] = weight[n * k + i];
    for (let row = 0; row < numRows; row++) {
      let sum = 0;
      for (let from = 0; from < k; from += LINEAR_SEGMENT)
        sum += dot(weightRow, rounded, from, row * stride + at + from, Math.min(LINEAR_SEGMENT, k - from));
      out.data[out.offset + row * out.stride + n] = sum + start;
    }
  }
}

/** Rounded activations of a call, and one row of the weight: they grow to the largest and are kept for the next call. */
let rounded = new Float64Array(0);
let weightRow = new Float64Array(0);

/** Four interleaved sums: an order like any other, and four times fewer waits for the previous addition. */
function dot(weight: Float64Array, x: Float64Array, atWeight: number, atX: number, length: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const whole = length - (length % 4);
  for (let i = 0; i < whole; i += 4) {
    s0 += weight[atWeight + i] * x[atX + i];
    s1 += weight[atWeight + i + 1] * x[atX + i + 1];
    s2 += weight[atWeight + i + 2] * x[atX + i + 2];
    s3 += weight[atWeight + i + 3] * x[atX + i + 3];
  }
  for (let i = whole; i < length; i++) s0 += weight[atWeight + i] * x[atX + i];
  return s0 + s1 + (s2 + s3);
}

const GROUP = 32;

/** The numbers that a linear of this activation multiplies with: exact in f64. */
export function roundActivation(activation: Activation, x: Float32Array, out: Float64Array): void {
  if (activation === 'f32') out.set(x);
  else if (activation === 'bf16') for (let i = 0; i < x.length; i++) out[i] = roundToBf16(x[i]);
  else {
    const group = activation === 'int8-token' ? x.length : GROUP;
    for (let begin = 0; begin < x.length; begin += group) quantiseGroup(x, begin, Math.min(x.length, begin + group), out);
  }
}

/**
 * Int8 with one scale: `scale = f32(amax / 127)`, `q = round to even(f32(x * f32(127 / amax)))`, all zero where amax is 0 or so small (below 4e-37) that
 * `127 / amax` is beyond f32; the number is `q * scale`.
 * A NaN or infinity in the group makes all of it NaN: a broken row must show, not turn into numbers.
 */
function quantiseGroup(x: Float32Array, begin: number, end: number, out: Float64Array): void {
  let largest = 0;
  let finite = true;
  for (let i = begin; i < end; i++) {
    largest = Math.max(largest, Math.abs(x[i]));
    finite &&= Number.isFinite(x[i]);
  }
  const scale = finite ? Math.fround(largest / 127) : NaN;
  const quotient = Math.fround(127 / largest);
  const inverse = quotient < Infinity ? quotient : 0;
  for (let i = begin; i < end; i++) out[i] = finite ? roundToEven(Math.fround(x[i] * inverse)) * scale : NaN;
}

/** Nearest integer, ties to even, of a small number. */
function roundToEven(x: number): number {
  return x + ROUNDER - ROUNDER;
}

/** 1.5 * 2^52: adding it to an f64 rounds to an integer. */
const ROUNDER = 6755399441055744;
