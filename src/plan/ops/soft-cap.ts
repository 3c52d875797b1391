import { count, firstComplaint, positive, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** `out = cap * tanh(x / cap)`: bounds logits smoothly (Gemma 2, arXiv:2408.00118). */
export interface SoftCapAttrs {
  cap: number;
}

export const softCap: OpDefinition<SoftCapAttrs> = {
  attrs: { cap: 'float' },
  verify: ({ inputs, outputs, attrs }) =>
    firstComplaint(count('inputs', inputs, 1), count('outputs', outputs, 1), sameShape(inputs[0], outputs[0]), positive('cap', attrs.cap)),
};
