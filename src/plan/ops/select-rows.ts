import { count, firstComplaint } from './checks.ts';
import type { OpDefinition } from './op.ts';

/** Keeps the rows whose logits are wanted: `out[i] = x[logitTokens[i]]`, from axis `tokens` to axis `logits`. */
export type SelectRowsAttrs = Record<never, never>;

export const selectRows: OpDefinition<SelectRowsAttrs> = {
  attrs: {},
  verify: ({ inputs, outputs }) =>
    firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      inputs[0].axis === 'tokens' && outputs[0].axis === 'logits' ? null : 'goes from axis tokens to axis logits',
      inputs[0].width === outputs[0].width ? null : `width ${inputs[0].width} became ${outputs[0].width}`,
    ),
};
