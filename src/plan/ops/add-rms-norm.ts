import { count, firstComplaint, sameShape, vector } from './checks.ts';
import type { OpDefinition } from './op.ts';
import type { RmsNormAttrs } from './rms-norm.ts';

/** Fused `sum = a + b; normed = rms-norm(sum)`. Inputs: a, b. Outputs: sum, normed. Made by the fuse pass. */
export type AddRmsNormAttrs = RmsNormAttrs;

export const addRmsNorm: OpDefinition<AddRmsNormAttrs> = {
  attrs: { epsilon: 'float', weightOffset: 'float', groupWidth: 'int' },
  verify: ({ inputs, outputs, weights, attrs }) =>
    firstComplaint(
      count('inputs', inputs, 2),
      count('outputs', outputs, 2),
      sameShape(inputs[0], inputs[1]),
      sameShape(inputs[0], outputs[0]),
      sameShape(inputs[0], outputs[1]),
      vector(weights[0], attrs.groupWidth),
      inputs[0].width % attrs.groupWidth === 0 ? null : `groupWidth ${attrs.groupWidth} does not divide width ${inputs[0].width}`,
    ),
};
