import { count, firstComplaint, positive, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * `out = g * sigmoid(alpha * g) * (u + 1)` with `g = min(gate, limit)` and `u` the up within `[-limit, limit]`: the gate of gpt-oss (OpenAI 2025,
 * arXiv:2508.10925). Inputs: gate, up.
 */
export interface ClampedSwigluAttrs {
  alpha: number;
  limit: number;
}

export const clampedSwiglu: OpDefinition<ClampedSwigluAttrs> = {
  attrs: { alpha: 'float', limit: 'float' },
  verify: ({ inputs, outputs, attrs }) =>
    firstComplaint(
      count('inputs', inputs, 2),
      count('outputs', outputs, 1),
      sameShape(inputs[0], inputs[1]),
      sameShape(inputs[0], outputs[0]),
      positive('limit', attrs.limit),
    ),
};
