import { count, firstComplaint, sameShape } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Attention of multi-head latent attention (DeepSeek-V2, arXiv:2405.04434) with the up-projections absorbed: a token's row of the cache, `[c; r]`, is
 * the key of every head, and its first part `c` the value.
 *
 * Inputs: queries against `c`, `[tokens, numHeads * rank]` (each head's query times its part of W_uk), and rotated queries against `r`,
 * `[tokens, numHeads * rotary]`. Output `[tokens, numHeads * rank]`, to be multiplied by each head's part of W_uv.
 * `score = scale * (qc . c + qr . r)`, the sum over `c` first, then on over `r`. Which keys a token sees, splits and their order are those of `attention`.
 */
export interface LatentAttentionAttrs {
  group: number;
  layer: number;
  numHeads: number;
  /** Multiplies the scores. */
  scale: number;
}

export const latentAttention: OpDefinition<LatentAttentionAttrs> = {
  attrs: { group: 'int', layer: 'int', numHeads: 'int', scale: 'float' },
  verify: ({ inputs, outputs, attrs: { group, layer, numHeads }, plan }) => {
    const cache = plan.cacheGroups[group];
    return firstComplaint(
      count('inputs', inputs, 2),
      count('outputs', outputs, 1),
      sameShape(inputs[0], outputs[0]),
      cache?.kind === 'latent' && cache.numKvHeads === 1 ? null : `cache group ${group} is not a latent one`,
      layer >= 0 && layer < (cache?.numLayers ?? 0) ? null : `layer ${layer} is outside its cache group`,
      inputs[0].width % numHeads === 0 && inputs[0].width + inputs[1].width === numHeads * (cache?.headDim ?? 0)
        ? null
        : `${numHeads} heads of rows of ${cache?.headDim} need queries of as many elements in all, not ${inputs[0].width} and ${inputs[1].width}`,
    );
  },
};
