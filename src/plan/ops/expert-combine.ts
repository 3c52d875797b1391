import { count, firstComplaint } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** `out[t] = sum_s weights[t, s] * y[t, s]`, from slot 0 on. Inputs: y `[rows, slots * width]`, slot after slot; weights `[rows, slots]`. */
export type ExpertCombineAttrs = Record<never, never>;

export const expertCombine: OpDefinition<ExpertCombineAttrs> = {
  attrs: {},
  verify: ({ inputs, outputs }) =>
    firstComplaint(count('inputs', inputs, 2), count('outputs', outputs, 1)) ??
    firstComplaint(
      inputs[1].axis === inputs[0].axis && outputs[0].axis === inputs[0].axis ? null : 'all values must have one axis',
      inputs[0].width === inputs[1].width * outputs[0].width
        ? null
        : `${inputs[1].width} slots of ${outputs[0].width} cannot have width ${inputs[0].width}`,
    ),
};
