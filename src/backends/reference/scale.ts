import type { ReferenceKernel } from './kernel.ts';

/** One f32 multiplication an element. */
export const scale: ReferenceKernel<'scale'> = ({ inputs: [x], outputs: [out], attrs }, numRows) => {
  const factor = Math.fround(attrs.factor);
  for (let row = 0; row < numRows; row++) {
    const [from, to] = [x.offset + row * x.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) out.data[to + i] = x.data[from + i] * factor;
  }
};
