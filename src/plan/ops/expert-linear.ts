import type { Activation } from '../plan.ts';
import { count, firstComplaint, vector } from './checks.ts';
import type { OpDefinition, VerifiedNode } from './op.ts';

/**
 * A linear whose matrix each token chooses, `slots` times: `out[t, s] = weight[ids[t, s]] . round(x[t, s]) + bias[ids[t, s]]`, with the rounding and the order of
 * sums of `linear`. Inputs: x, either `[rows, inputs]` for all slots or `[rows, slots * inputs]`, slot after slot; ids `[rows, slots]` i32. Weights: matrices
 * `[experts, outputs, inputs]` in any format; optional bias `[experts * outputs]` f32.
 *
 * Outputs: one or more, together as wide as `outputs`: output i is `[rows, slots * n_i]`, slot after slot, and holds the next n_i rows of the matrix (gate
 * and up, of one matrix). What a row becomes depends on its own x and ids alone.
 */
export interface ExpertLinearAttrs {
  activation: Activation;
  /** Matrices in the weight. */
  experts: number;
}

export const expertLinear: OpDefinition<ExpertLinearAttrs> = {
  attrs: { activation: ['f32', 'bf16', 'int8-group32', 'int8-token'], experts: 'int' },
  verify: (node) => count('inputs', node.inputs, 2) ?? (node.outputs.length === 0 ? 'has no output' : expertComplaint(node)),
};

function expertComplaint({ inputs: [x, ids], outputs, weights: [weight, bias], attrs }: VerifiedNode<ExpertLinearAttrs>): string | null {
  if (weight === null || weight === undefined) return 'a weight is missing';
  const [experts, rows, columns] = weight.shape;
  if (weight.shape.length !== 3) return `${weight.name} must be [experts, outputs, inputs], not [${weight.shape.join(', ')}]`;
  const slots = ids.width;
  return firstComplaint(
    experts === attrs.experts ? null : `${weight.name} has ${experts} matrices, not ${attrs.experts}`,
    ids.dtype === 'i32' && x.dtype === 'f32' ? null : 'ids must be i32 and x f32',
    [ids, ...outputs].every(({ axis }) => axis === x.axis) ? null : 'all values must have one axis',
    x.width === columns || x.width === slots * columns ? null : `x must have width ${columns} or ${slots * columns}, not ${x.width}`,
    outputs.every(({ width }) => width % slots === 0) ? null : `every output must be ${slots} slots wide`,
    outputs.reduce((sum, { width }) => sum + width, 0) === slots * rows ? null : `outputs must share ${slots} slots of ${rows}`,
    bias === null || bias === undefined ? null : vector(bias, experts * rows),
    attrs.activation === 'int8-group32' && columns % 32 !== 0 ? `int8-group32 needs a width divisible by 32, not ${columns}` : null,
  );
}
