import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** `out = x * factor`. */
export interface ScaleAttrs {
  factor: number;
}

export const scale: OpDefinition<ScaleAttrs> = {
  attrs: { factor: 'float' },
  verify: ({ inputs, outputs }) => firstComplaint(count('inputs', inputs, 1), count('outputs', outputs, 1), sameShape(inputs[0], outputs[0])),
};
