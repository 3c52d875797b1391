import { count, firstComplaint, width } from './checks.ts';
import type { OpDefinition } from './op.ts';

/**
 * Stores `[latent; key]`, side by side, at each token's slot of a `latent` cache group, rounded to the cache dtype. No outputs.
 * Inputs: the compressed K and V `[tokens, rank]`, normed, and the rotated key that all heads share `[tokens, rotary]`; rank + rotary is the group's headDim.
 */
export interface LatentWriteAttrs {
  /** Index into `plan.cacheGroups`. */
  group: number;
  /** Index of the layer within its group. */
  layer: number;
}

export const latentWrite: OpDefinition<LatentWriteAttrs> = {
  attrs: { group: 'int', layer: 'int' },
  verify: ({ inputs, outputs, attrs: { group, layer }, plan }) => {
    const cache = plan.cacheGroups[group];
    return firstComplaint(
      count('inputs', inputs, 2),
      count('outputs', outputs, 0),
      cache?.kind === 'latent' ? null : `cache group ${group} is not a latent one`,
      layer >= 0 && layer < (cache?.numLayers ?? 0) ? null : `layer ${layer} is outside its cache group`,
      width('the key', inputs[1], (cache?.headDim ?? 0) - inputs[0].width),
    );
  },
};
