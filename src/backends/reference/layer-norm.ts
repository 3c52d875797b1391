import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';

/** Mean, variance and everything after them in f64, rounded once. */
export const layerNorm: ReferenceKernel<'layer-norm'> = ({ inputs: [x], outputs: [out], weights: [weight, bias], attrs }, numRows) => {
  invariant(weight !== null, 'layer-norm needs its weight');
  const { width } = x;
  const epsilon = Math.fround(attrs.epsilon);
  for (let row = 0; row < numRows; row++) {
    const from = x.offset + row * x.stride;
    const to = out.offset + row * out.stride;
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x.data[from + i];
    const mean = sum / width;
    let squares = 0;
    for (let i = 0; i < width; i++) squares += (x.data[from + i] - mean) ** 2;
    const factor = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) out.data[to + i] = (x.data[from + i] - mean) * factor * weight[i] + (bias?.[i] ?? 0);
  }
};
