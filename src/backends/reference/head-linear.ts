import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';
import { multiplyRows, roundRows } from './linear.ts';

/** `linear` of each head's columns with its own rows of the weight. */
export const headLinear: ReferenceKernel<'head-linear'> = ({ inputs: [x], outputs: [out], weights: [weight], attrs }, numRows) => {
  invariant(weight !== null, 'head-linear needs its weight');
  const rounded = roundRows(x, numRows, attrs.activation);
  const k = x.width / attrs.numHeads;
  const perHead = out.width / attrs.numHeads;
  for (let head = 0; head < attrs.numHeads; head++) {
    multiplyRows({ rounded, stride: x.width, at: head * k, k }, weight, null, out, head * perHead, (head + 1) * perHead, numRows);
  }
};
