import { cacheLayer, count, firstComplaint, heads, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Softmax attention of each query over the keys that it sees, read from the cache as stored (idea 5).
 *
 * Keys of token t: cache indices `[max(0, cacheIndex[t] + 1 - window), visibleEnd[t])` through the row's block table, then its draft ancestors
 * (S4). With a window below 0, as encoders have: indices less than `-window` away from `cacheIndex[t]`, before and after it, below `visibleEnd[t]`; no
 * ancestors. Query head h reads KV head `floor(h * numKvHeads / numHeads)`. Keys are cut into splits of `ATTENTION_SPLIT`
 * aligned to cache index 0; a split is reduced from nothing in one fixed order, splits are merged in order.
 * `activation` says what is rounded before it meets K and V, which are as the cache stores them: nothing, or, with `bf16`, the query and the product of each
 * weight `e^(score - maximum of its split)` with the scale that the cache keeps beside the head of its value (1 in number types without one). The denominator
 * sums the weights unrounded. Numbers below 2^-126 in magnitude may count as zero then.
 * Constants: optional slopes `[numHeads]` (ALiBi, Press et al. 2022, arXiv:2108.12409): `slope * (index of the key - cacheIndex[t])` is added to a
 * score after scale and soft cap.
 * Weights: optional sink logits `[numHeads]` f32, joined to the softmax denominator without a value.
 */
export interface AttentionAttrs {
  group: number;
  layer: number;
  numHeads: number;
  headDim: number;
  /** Multiplies q . k before the soft cap. */
  scale: number;
  /** 0: none; otherwise scores become `softCap * tanh(score / softCap)`. */
  softCap: number;
  /** 0: all keys that are visible; above 0: the last `window` of them, its own included; below 0: those less than `-window` away on either side. */
  window: number;
  /** `f32` when absent. */
  activation?: AttentionActivation;
}

/** What a query and the weights of values are rounded to. */
export type AttentionActivation = 'f32' | 'bf16';

/** Keys in one split. Part of the meaning: changing it changes results. A multiple of every block size. */
export const ATTENTION_SPLIT = 256;

export const attention: OpDefinition<AttentionAttrs> = {
  attrs: {
    group: 'int',
    layer: 'int',
    numHeads: 'int',
    headDim: 'int',
    scale: 'float',
    softCap: 'float',
    window: 'int',
    activation: ['f32', 'bf16'],
  },
  verify: ({ inputs, outputs, attrs, plan, node }) => {
    const group = plan.cacheGroups[attrs.group];
    return firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      heads(inputs[0], attrs.headDim),
      group === undefined
        ? `cache group ${attrs.group} does not exist`
        : cacheLayer(plan, attrs.group, attrs.layer, group.numKvHeads * group.headDim),
      group !== undefined && attrs.numHeads % group.numKvHeads !== 0
        ? `${attrs.numHeads} heads cannot share ${group.numKvHeads} KV heads evenly`
        : null,
      node.constants.length > 0 && plan.constants[node.constants[0]]?.data.length !== attrs.numHeads
        ? `constant 0 must have ${attrs.numHeads} slopes`
        : null,
      group?.kind === 'window' && (attrs.window <= 0 || attrs.window > (group.window ?? 0))
        ? `window ${attrs.window} reads more than its cache group keeps (${group.window})`
        : null,
    );
  },
};
