import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';

/** One f32 multiplication an element; an exact copy at scale 1. */
export const embedding: ReferenceKernel<'embedding'> = ({ inputs: [ids], outputs: [out], weights: [table], attrs }, numRows) => {
  invariant(table !== null, 'embedding needs its table');
  const factor = Math.fround(attrs.scale);
  for (let row = 0; row < numRows; row++) {
    const from = ids.ints[ids.offset + row * ids.stride] * out.width;
    const to = out.offset + row * out.stride;
    for (let i = 0; i < out.width; i++) out.data[to + i] = table[from + i] * factor;
  }
};
