import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';
import { anglesOf, rotateRow } from './rope.ts';

let turned = new Float32Array(0);

/** K is read as stored, turned in f64, rounded to f32 and then to the cache dtype; V is moved as stored. */
export const kvRotate: ReferenceKernel<'kv-rotate'> = ({ constants: [frequencies], attrs }, numRows, { batch, cache }) => {
  invariant(cache !== null, 'kv-rotate needs a cache');
  const { blockSize, groups } = cache.spec;
  const { headDim } = groups[attrs.group];
  const { k, width } = cache.layer(attrs.group, attrs.layer);
  if (turned.length < width) turned = new Float32Array(width);
  const rope = { headDim, rotaryDim: attrs.rotaryDim, style: attrs.style, magnitude: 1 };
  for (let row = 0; row < batch.numRows; row++) {
    const table = (attrs.group * batch.numRows + row) * batch.maxBlocks;
    for (let token = batch.rowStart[row]; token < Math.min(numRows, batch.rowStart[row + 1]); token++) {
      const index = batch.cacheIndex[token];
      const from = batch.blockTables[table + Math.floor(index / blockSize)] * blockSize + (index % blockSize);
      const to = batch.slotMapping[attrs.group * batch.numTokens + token];
      cache.moveSlot(attrs.group, attrs.layer, from, to);
      if (attrs.rotaryDim === 0) continue;
      rotateRow(k, to * width, turned, 0, width, anglesOf(token, frequencies, rope, batch), rope);
      cache.writeKey(attrs.group, attrs.layer, to, turned);
    }
  }
};
