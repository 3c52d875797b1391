import type { Activation } from '../plan.ts';
import { count, firstComplaint, heads, matrix } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * A matrix for each head: `out[t, h * m + n] = sum_k round(x[t, h * w + k]) * weight[h * m + n, k]`, where an input head is `w` wide and an output head
 * `m`. Rounding, segments and order are those of `linear`, `x` rounded as one row over all heads. Weights: matrix `[numHeads * m, w]` in any format.
 */
export interface HeadLinearAttrs {
  numHeads: number;
  activation: Activation;
}

export const headLinear: OpDefinition<HeadLinearAttrs> = {
  attrs: { numHeads: 'int', activation: ['f32', 'bf16', 'int8-group32', 'int8-token'] },
  verify: ({ inputs, outputs, weights, attrs }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      attrs.numHeads > 0 && inputs[0].width % attrs.numHeads === 0 ? heads(outputs[0], outputs[0].width / attrs.numHeads) : 'its heads do not fit',
      outputs[0].width % attrs.numHeads === 0 ? null : 'its heads do not fit',
      matrix(weights[0], outputs[0].width, inputs[0].width / attrs.numHeads),
      (inputs[0].width / attrs.numHeads) % 4 === 0 ? null : `heads of ${inputs[0].width / attrs.numHeads} are not a multiple of 4 wide`,
      attrs.activation === 'int8-group32' && (inputs[0].width / attrs.numHeads) % 32 !== 0 ? 'int8-group32 needs heads divisible by 32' : null,
    ),
};
