import { count, firstComplaint, sameShape, vector } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Each run of `groupWidth` columns: `out = x / sqrt(mean(x^2) + epsilon) * (weight + weightOffset)`. Zhang and Sennrich 2019, arXiv:1910.07467.
 * `groupWidth` is the whole width for a layer norm and the head size for q/k norms. Weights: `[groupWidth]` f32.
 */
export interface RmsNormAttrs {
  epsilon: number;
  /** 0, or 1 for the Gemma families, whose checkpoints store `weight - 1`. */
  weightOffset: number;
  groupWidth: number;
}

export const rmsNorm: OpDefinition<RmsNormAttrs> = {
  attrs: { epsilon: 'float', weightOffset: 'float', groupWidth: 'int' },
  verify: ({ inputs, outputs, weights, attrs }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      vector(weights[0], attrs.groupWidth),
      inputs[0].width % attrs.groupWidth === 0 ? null : `groupWidth ${attrs.groupWidth} does not divide width ${inputs[0].width}`,
    ),
};
