import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** `out = f(gate) * up`. Inputs: gate, up (often two views of one linear). Shazeer 2020, arXiv:2002.05202. */
export interface GatedActivationAttrs {
  /** `gelu-tanh` is the tanh approximation, `gelu` the exact erf form. */
  function: 'silu' | 'gelu-tanh' | 'gelu';
}

export const gatedActivation: OpDefinition<GatedActivationAttrs> = {
  attrs: { function: ['silu', 'gelu-tanh', 'gelu'] },
  verify: ({ inputs, outputs }) =>
    firstComplaint(count('inputs', inputs, 2), count('outputs', outputs, 1), sameShape(inputs[0], inputs[1]), sameShape(inputs[0], outputs[0])),
};
