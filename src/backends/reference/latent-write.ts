import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';

/** Rounds to the cache dtype and stores; nothing else ever sees the unrounded numbers (idea 5). */
export const latentWrite: ReferenceKernel<'latent-write'> = ({ inputs: [latent, key], attrs }, numRows, { batch, cache }) => {
  invariant(cache !== null, 'latent-write needs a cache');
  for (let token = 0; token < numRows; token++) {
    const slot = batch.slotMapping[attrs.group * batch.numTokens + token];
    const [atLatent, atKey] = [latent.offset + token * latent.stride, key.offset + token * key.stride];
    const row = latent.data.subarray(atLatent, atLatent + latent.width);
    cache.writeLatent(attrs.group, attrs.layer, slot, row, key.data.subarray(atKey, atKey + key.width));
  }
};
