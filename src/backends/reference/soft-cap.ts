import type { ReferenceKernel } from './kernel.ts';

/** `cap * tanh(x / cap)` in f64, rounded once. */
export const softCap: ReferenceKernel<'soft-cap'> = ({ inputs: [x], outputs: [out], attrs }, numRows) => {
  const cap = Math.fround(attrs.cap);
  for (let row = 0; row < numRows; row++) {
    const [from, to] = [x.offset + row * x.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) out.data[to + i] = cap * Math.tanh(x.data[from + i] / cap);
  }
};
