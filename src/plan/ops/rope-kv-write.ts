import { cacheLayer, count, firstComplaint, heads, sameShape } from './checks.ts';
import type { KvWriteAttrs } from './kv-write.ts';
import type { OpDefinition } from './op.ts';
import type { RopeAttrs } from './rope.ts';

/** Fused `rope(q)`, `rope(k)`, `kv-write(k, v)`. Inputs: q, k, v. Outputs: rotated q. Constants: inverse frequencies. Made by the fuse pass. */
export type RopeKvWriteAttrs = RopeAttrs & KvWriteAttrs;

export const ropeKvWrite: OpDefinition<RopeKvWriteAttrs> = {
  attrs: { headDim: 'int', rotaryDim: 'int', style: ['half', 'interleaved'], magnitude: 'float', group: 'int', layer: 'int' },
  verify: ({ inputs, outputs, attrs, plan, node }) =>
    firstComplaint(
      count('inputs', inputs, 3),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      sameShape(inputs[1], inputs[2]),
      heads(inputs[0], attrs.headDim),
      cacheLayer(plan, attrs.group, attrs.layer, inputs[1].width),
      plan.constants[node.constants[0]]?.data.length === attrs.rotaryDim / 2 ? null : `constant 0 must have ${attrs.rotaryDim / 2} frequencies`,
    ),
};
