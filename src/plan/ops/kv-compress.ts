import { cacheLayer, count, firstComplaint, heads } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Leaves, of the keys of each row, those that its tokens attend to most: SnapKV (Li et al. 2024, arXiv:2404.14469). The tokens of a row are the last of its
 * keys (the observation window); `batch.kept` says how many keys the row keeps and how wide scores are pooled.
 *
 * For each KV head: the softmax weights of every token and query head that reads it, summed per key in order of tokens, then heads; of the keys before the
 * window, pooled over `pool` neighbours by maximum. The largest stay, ties to the lower index, and the window. K and V of those move, as stored, to cache
 * indices 0, 1, ... in their order, through the row's block table. Rows that keep as many as they have stay as they are. What the block table held
 * beyond is unspecified afterwards. Input: q as `attention` takes it.
 */
export interface KvCompressAttrs {
  group: number;
  layer: number;
  numHeads: number;
  headDim: number;
  scale: number;
  /** As of `attention`. */
  softCap: number;
}

export const kvCompress: OpDefinition<KvCompressAttrs> = {
  attrs: { group: 'int', layer: 'int', numHeads: 'int', headDim: 'int', scale: 'float', softCap: 'float' },
  verify: ({ inputs, outputs, attrs, plan }) => {
    const group = plan.cacheGroups[attrs.group];
    return firstComplaint(
      count('inputs', inputs, 1),
      count('outputs', outputs, 0),
      heads(inputs[0], attrs.headDim),
      cacheLayer(plan, attrs.group, attrs.layer, (group?.numKvHeads ?? 0) * attrs.headDim),
      attrs.numHeads * attrs.headDim !== inputs[0].width || attrs.numHeads % (group?.numKvHeads ?? 1) !== 0
        ? `${attrs.numHeads} heads cannot share the KV heads evenly`
        : null,
      group?.kind !== 'full' ? 'its cache group must keep every token' : null,
    );
  },
};
