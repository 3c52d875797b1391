import type { ReferenceKernel } from './kernel.ts';

export const gatherColumns: ReferenceKernel<'gather-columns'> = ({ inputs: [x], outputs: [out], constants: [order] }, numRows) => {
  for (let row = 0; row < numRows; row++) {
    const [from, to] = [x.offset + row * x.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) out.data[to + i] = x.data[from + order[i]];
  }
};
