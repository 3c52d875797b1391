import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** `out = function(x)`, element by element: the activation of an MLP without a gate. Functions as in `gated-activation`; `relu` is `max(x, 0)`. */
export interface ActivationAttrs {
  function: 'silu' | 'gelu-tanh' | 'gelu' | 'relu';
}

export const activation: OpDefinition<ActivationAttrs> = {
  attrs: { function: ['silu', 'gelu-tanh', 'gelu', 'relu'] },
  verify: ({ inputs, outputs }) => firstComplaint(count('inputs', inputs, 1), count('outputs', outputs, 1), sameShape(inputs[0], outputs[0])),
};
