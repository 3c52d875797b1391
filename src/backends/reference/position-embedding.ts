import { invariant } from '../../base/errors.ts';
import type { ReferenceKernel } from './kernel.ts';

/** One f32 addition an element. */
export const positionEmbedding: ReferenceKernel<'position-embedding'> = (
  { inputs: [x], outputs: [out], weights: [table], attrs },
  numRows,
  { batch },
) => {
  invariant(table !== null, 'position-embedding needs its table');
  const last = table.length / out.width - 1;
  for (let row = 0; row < numRows; row++) {
    const at = Math.min(batch.positions[attrs.axis * batch.numTokens + row], last) * out.width;
    const [from, to] = [x.offset + row * x.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) out.data[to + i] = x.data[from + i] + table[at + i];
  }
};
