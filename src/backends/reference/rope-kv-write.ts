import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';
import { anglesOf, rotate, rotateRow } from './rope.ts';

let rotated = new Float32Array(0);

/** Exactly `rope` of q, `rope` of k, `kv-write` of the rotated k, rounded to f32 in between, and v. */
export const ropeKvWrite: ReferenceKernel<'rope-kv-write'> = (call, numRows, { batch, cache }) => {
  const { inputs, outputs, constants, attrs } = call;
  const [q, k, v] = inputs;
  invariant(cache !== null, 'rope-kv-write needs a cache');
  rotate(q, outputs[0], numRows, constants[0], attrs, batch);
  if (rotated.length < k.width) rotated = new Float32Array(k.width);
  for (let token = 0; token < numRows; token++) {
    rotateRow(k.data, k.offset + token * k.stride, rotated, 0, k.width, anglesOf(token, constants[0], attrs, batch), attrs);
    const slot = batch.slotMapping[attrs.group * batch.numTokens + token];
    cache.write(attrs.group, attrs.layer, slot, rotated, 0, v.data, v.offset + token * v.stride);
  }
};
