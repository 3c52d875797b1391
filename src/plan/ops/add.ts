import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** `out = a + b`, same shape. */
export type AddAttrs = Record<never, never>;

export const add: OpDefinition<AddAttrs> = {
  attrs: {},
  verify: ({ inputs, outputs }) =>
    firstComplaint(count('inputs', inputs, 2), count('outputs', outputs, 1), sameShape(inputs[0], inputs[1]), sameShape(inputs[0], outputs[0])),
};
