import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';

/** Rounds to the cache dtype and stores; nothing else ever sees the unrounded numbers (idea 5). */
export const kvWrite: ReferenceKernel<'kv-write'> = ({ inputs: [k, v], attrs }, numRows, { batch, cache }) => {
  invariant(cache !== null, 'kv-write needs a cache');
  for (let token = 0; token < numRows; token++) {
    const slot = batch.slotMapping[attrs.group * batch.numTokens + token];
    cache.write(attrs.group, attrs.layer, slot, k.data, k.offset + token * k.stride, v.data, v.offset + token * v.stride);
  }
};
