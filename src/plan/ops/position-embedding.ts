import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Learned positions: `out[t] = x[t] + table[min(position[t], rows - 1)]`, one f32 addition an element. Weights: table `[rows, width]`, any format,
 * widened exactly. The engine admits no position beyond the table; the bound keeps a wrong one inside it.
 */
export type PositionEmbeddingAttrs = Record<never, never>;

export const positionEmbedding: OpDefinition<PositionEmbeddingAttrs> = {
  attrs: {},
  verify: ({ inputs, outputs, weights }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      inputs[0]?.axis === 'tokens' ? null : 'works on tokens',
      weights[0]?.shape.length === 2 && weights[0].shape[1] === inputs[0].width ? null : 'the table must be [positions, width]',
    ),
};
