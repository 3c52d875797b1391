import type { ReferenceKernel } from './kernel.ts';

/** Sums in f64 from slot 0 on, rounded once. */
export const expertCombine: ReferenceKernel<'expert-combine'> = ({ inputs: [y, weights], outputs: [out] }, numRows) => {
  for (let row = 0; row < numRows; row++) {
    const from = y.offset + row * y.stride;
    const shares = weights.offset + row * weights.stride;
    for (let i = 0; i < out.width; i++) {
      let sum = 0;
      for (let slot = 0; slot < weights.width; slot++) sum += weights.data[shares + slot] * y.data[from + slot * out.width + i];
      out.data[out.offset + row * out.stride + i] = sum;
    }
  }
};
