import type { ReferenceKernel } from './kernel.ts';

/** One f32 addition an element. */
export const add: ReferenceKernel<'add'> = ({ inputs: [a, b], outputs: [out] }, numRows) => {
  for (let row = 0; row < numRows; row++) {
    const [atA, atB, at] = [a.offset + row * a.stride, b.offset + row * b.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) out.data[at + i] = a.data[atA + i] + b.data[atB + i];
  }
};
