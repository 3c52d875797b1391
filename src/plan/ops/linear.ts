import type { Activation } from '../plan.ts';
import { count, firstComplaint, matrix, vector } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * `out[t, n] = sum_k round(x[t, k]) * weight[n, k] + bias[n]`, K in segments of `LINEAR_SEGMENT`, each summed from zero in one fixed order,
 * segments added in order (idea 5). Weights: matrix `[outputs, inputs]` in any format; optional bias `[outputs]` f32.
 */
export interface LinearAttrs {
  activation: Activation;
}

/** Columns of K in one segment. Part of the meaning: changing it changes results. A multiple of 256. */
export const LINEAR_SEGMENT = 1024;

export const linear: OpDefinition<LinearAttrs> = {
  attrs: { activation: ['f32', 'bf16', 'int8-group32', 'int8-token'] },
  verify: ({ inputs, outputs, weights, attrs }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      matrix(weights[0], outputs[0]?.width, inputs[0]?.width),
      weights[1] === null || weights[1] === undefined ? null : vector(weights[1], outputs[0].width),
      attrs.activation === 'int8-group32' && inputs[0].width % 32 !== 0 ? `int8-group32 needs a width divisible by 32, not ${inputs[0].width}` : null,
    ),
};
