import { invariant } from '../../base/errors.ts';
import { attend, keysOf } from './attention.ts';
import type { ReferenceKernel } from './kernel.ts';

let query = new Float32Array(0);

/** `attention` of one KV head whose keys are whole rows of the cache and whose values are their first `rank` elements. */
export const latentAttention: ReferenceKernel<'latent-attention'> = (
  { inputs: [qLatent, qRotary], outputs: [out], attrs },
  numRows,
  { batch, cache },
) => {
  invariant(cache !== null, 'latent-attention needs a cache');
  const stored = { ...cache.layer(attrs.group, attrs.layer), at: 0, atScale: 0 };
  const [rank, rotary] = [qLatent.width / attrs.numHeads, qRotary.width / attrs.numHeads];
  const head = { headDim: rank + rotary, valueDim: rank, scale: attrs.scale, softCap: 0, rounds: false };
  if (query.length < head.headDim) query = new Float32Array(head.headDim);
  for (let row = 0; row < batch.numRows; row++) {
    for (let token = batch.rowStart[row]; token < Math.min(numRows, batch.rowStart[row + 1]); token++) {
      const keys = keysOf(batch, cache, { group: attrs.group, window: 0 }, row, token);
      keys.slope = 0;
      for (let h = 0; h < attrs.numHeads; h++) {
        const [atLatent, atRotary] = [qLatent.offset + token * qLatent.stride + h * rank, qRotary.offset + token * qRotary.stride + h * rotary];
        query.set(qLatent.data.subarray(atLatent, atLatent + rank));
        query.set(qRotary.data.subarray(atRotary, atRotary + rotary), rank);
        attend(query, 0, keys, stored, head, null, out.data, out.offset + token * out.stride + h * rank);
      }
    }
  }
};
