import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Learned positions: `out[t] = x[t] + table[min(positions[axis][t], rows - 1)]`, one f32 addition an element. Weights: table `[rows, width]`, any format,
 * widened exactly. The engine admits no position beyond the table; the bound keeps a wrong one inside it.
 */
export interface PositionEmbeddingAttrs {
  /** Of the positions (S4): 0; 1 for the token types of encoders. */
  axis: number;
}

export const positionEmbedding: OpDefinition<PositionEmbeddingAttrs> = {
  attrs: { axis: 'int' },
  verify: ({ inputs, outputs, weights, attrs, plan }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      inputs[0]?.axis === 'tokens' ? null : 'works on tokens',
      attrs.axis >= 0 && attrs.axis < plan.numPositionAxes ? null : `positions have ${plan.numPositionAxes} axes, not ${attrs.axis + 1}`,
      weights[0]?.shape.length === 2 && weights[0].shape[1] === inputs[0].width ? null : 'the table must be [positions, width]',
    ),
};
