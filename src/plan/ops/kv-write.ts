import { cacheLayer, count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** Stores K and V `[tokens, numKvHeads * headDim]` at each token's slot of a cache group, rounded to the cache dtype. No outputs. */
export interface KvWriteAttrs {
  /** Index into `plan.cacheGroups`. */
  group: number;
  /** Index of the layer within its group. */
  layer: number;
}

export const kvWrite: OpDefinition<KvWriteAttrs> = {
  attrs: { group: 'int', layer: 'int' },
  verify: ({ inputs, outputs, attrs, plan }) =>
    firstComplaint(
      count('inputs', inputs, 2),
      count('outputs', outputs, 0),
      sameShape(inputs[0], inputs[1]),
      cacheLayer(plan, attrs.group, attrs.layer, inputs[0].width),
    ),
};
