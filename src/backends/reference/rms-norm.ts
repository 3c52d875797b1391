import { invariant } from '../../base/errors.ts';
import type { RmsNormAttrs } from '../../plan/ops/rms-norm.ts';
import type { Matrix, ReferenceKernel } from './kernel.ts';

/** Mean of squares and everything after it in f64, rounded once. */
export const rmsNorm: ReferenceKernel<'rms-norm'> = ({ inputs: [x], outputs: [out], weights: [weight], attrs }, numRows) => {
  invariant(weight !== null, 'rms-norm needs its weight');
  normalise(x, out, weight, attrs, numRows);
};

/** Also the second half of `add-rms-norm`. */
export function normalise(x: Matrix, out: Matrix, weight: Float32Array, attrs: RmsNormAttrs, numRows: number): void {
  const { groupWidth } = attrs;
  const epsilon = Math.fround(attrs.epsilon);
  const weightOffset = Math.fround(attrs.weightOffset);
  for (let row = 0; row < numRows; row++) {
    for (let begin = 0; begin < x.width; begin += groupWidth) {
      const from = x.offset + row * x.stride + begin;
      const to = out.offset + row * out.stride + begin;
      let squares = 0;
      for (let i = 0; i < groupWidth; i++) squares += x.data[from + i] * x.data[from + i];
      const factor = 1 / Math.sqrt(squares / groupWidth + epsilon);
      for (let i = 0; i < groupWidth; i++) out.data[to + i] = x.data[from + i] * factor * (weight[i] + weightOffset);
    }
  }
}
