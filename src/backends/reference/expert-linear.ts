import { invariant } from '../../base/errors.ts';
import { LINEAR_SEGMENT } from '../../plan/ops/linear.ts';
import type { ReferenceKernel } from './kernel.ts';
import { roundActivation } from './linear.ts';

/** Slot by slot a `linear` of one row: the same rounding, segments of K each summed from zero in f64, added in order, the bias last, one rounding. */
export const expertLinear: ReferenceKernel<'expert-linear'> = ({ inputs: [x, ids], outputs, weights: [weight, bias], attrs }, numRows) => {
  invariant(weight !== null, 'expert-linear needs its weight');
  const slots = ids.width;
  const rows = outputs.reduce((sum, { width }) => sum + width, 0) / slots;
  const columns = weight.length / (attrs.experts * rows);
  const perSlot = x.width !== columns;
  const rounded = new Float64Array(columns);
  for (let row = 0; row < numRows; row++) {
    for (let slot = 0; slot < slots; slot++) {
      const from = x.offset + row * x.stride + (perSlot ? slot * columns : 0);
      if (slot === 0 || perSlot) roundActivation(attrs.activation, x.data.subarray(from, from + columns), rounded);
      let n = ids.ints[ids.offset + row * ids.stride + slot] * rows;
      for (const out of outputs) {
        const width = out.width / slots;
        const at = out.offset + row * out.stride + slot * width;
        for (let i = 0; i < width; i++, n++) out.data[at + i] = dot(weight, n * columns, rounded) + (bias?.[n] ?? 0);
      }
    }
  }
};

function dot(weight: Float32Array, at: number, x: Float64Array): number {
  let total = 0;
  for (let begin = 0; begin < x.length; begin += LINEAR_SEGMENT) {
    let sum = 0;
    const end = Math.min(x.length, begin + LINEAR_SEGMENT);
    for (let k = begin; k < end; k++) sum += weight[at + k] * x[k];
    total += sum;
  }
  return total;
}
