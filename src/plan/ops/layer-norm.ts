import { count, firstComplaint, sameShape, vector } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * `out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * weight + bias` over the whole width. Ba et al. 2016, arXiv:1607.06450.
 * Weights: weight `[width]` f32; optional bias `[width]` f32.
 */
export interface LayerNormAttrs {
  epsilon: number;
}

export const layerNorm: OpDefinition<LayerNormAttrs> = {
  attrs: { epsilon: 'float' },
  verify: ({ inputs, outputs, weights }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      vector(weights[0], inputs[0]?.width),
      weights[1] === null || weights[1] === undefined ? null : vector(weights[1], inputs[0].width),
    ),
};
