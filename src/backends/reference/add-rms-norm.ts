import { invariant } from '../../base/errors.ts';
import { add } from './add.ts';
import type { ReferenceKernel } from './kernel.ts';
import { normalise } from './rms-norm.ts';

/** Exactly `add`, then `rms-norm` of the rounded sum. */
export const addRmsNorm: ReferenceKernel<'add-rms-norm'> = ({ inputs, outputs: [sum, normed], weights, constants, attrs }, numRows, step) => {
  const [weight] = weights;
  invariant(weight !== null, 'add-rms-norm needs its weight');
  add({ inputs, outputs: [sum], weights, constants, attrs: {} }, numRows, step);
  normalise(sum, normed, weight, attrs, numRows);
};
