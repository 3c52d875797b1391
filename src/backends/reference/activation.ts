import { functions as smoothFunctions } from './gated-activation.ts';
import type { ReferenceKernel } from './kernel.ts';

const functions = { ...smoothFunctions, relu: (x: number) => (x < 0 ? 0 : x) };

/** In f64, rounded once. */
export const activation: ReferenceKernel<'activation'> = ({ inputs: [x], outputs: [out], attrs }, numRows) => {
  const f = functions[attrs.function];
  for (let row = 0; row < numRows; row++) {
    const [from, to] = [x.offset + row * x.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) out.data[to + i] = f(x.data[from + i]);
  }
};
