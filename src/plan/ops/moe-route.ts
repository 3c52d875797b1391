import { count, firstComplaint, vector } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Chooses the experts of each token. Input: router logits `[rows, experts]`. Outputs: ids `[rows, slots]` i32, weights `[rows, slots]`. Weights: optional
 * correction bias `[experts]` f32, which takes part in the choice and not in the weights (Wang et al. 2024, arXiv:2408.15664).
 *
 * All in f32, operation for operation (`sampling/arithmetic.ts`), so that every backend chooses alike:
 * 1. The score of an expert is its softmax over all experts, or its sigmoid. The choice goes by score plus bias; without a bias, softmax scores are chosen
 *    by their logits, which order alike. NaN comes last.
 * 2. Where there are several groups, runs of `experts / groups` ids, only the best `keptGroups` take part; a group is as good as its best choice (`max`,
 *    DeepSeek-V2, arXiv:2405.04434) or as its best two together (`top2`, DeepSeek-V3, arXiv:2412.19437).
 * 3. Slots hold the best experts in falling order. Ties go to the lower id, of groups as of experts.
 * 4. The weight of a slot is the score of its expert; with `normalise: sum` divided by the sum over slots, added in slot order (softmax: the softmax over the
 *    chosen logits, the same number); then times `scale`.
 */
export interface MoeRouteAttrs {
  score: 'softmax' | 'sigmoid';
  normalise: 'none' | 'sum';
  /** 1: no groups. */
  groups: number;
  keptGroups: number;
  groupScore: 'max' | 'top2';
  scale: number;
}

export const moeRoute: OpDefinition<MoeRouteAttrs> = {
  attrs: { score: ['softmax', 'sigmoid'], normalise: ['none', 'sum'], groups: 'int', keptGroups: 'int', groupScore: ['max', 'top2'], scale: 'float' },
  verify: ({ inputs, outputs, weights, attrs }) =>
    firstComplaint(count('inputs', inputs, 1), count('outputs', outputs, 2)) ??
    firstComplaint(
      outputs[0].dtype === 'i32' && outputs[1].dtype === 'f32' ? null : 'ids must be i32 and weights f32',
      outputs[0].width === outputs[1].width ? null : 'there must be a weight for each id',
      outputs.every(({ axis }) => axis === inputs[0].axis) ? null : 'outputs must have the axis of the logits',
      weights[0] === null || weights[0] === undefined ? null : vector(weights[0], inputs[0].width),
      groupsComplaint(inputs[0].width, outputs[0].width, attrs),
    ),
};

function groupsComplaint(experts: number, slots: number, { groups, keptGroups, groupScore }: MoeRouteAttrs): string | null {
  if (groups < 1 || experts % groups !== 0) return `${experts} experts cannot make ${groups} groups`;
  if (keptGroups < 1 || keptGroups > groups) return `${keptGroups} of ${groups} groups cannot be kept`;
  if (groupScore === 'top2' && groups > 1 && experts / groups < 2) return 'groups of one expert have no best two';
  const among = (experts / groups) * keptGroups;
  return slots >= 1 && slots <= among ? null : `${slots} of ${among} experts cannot be chosen`;
}
