import type { ReferenceKernel } from './kernel.ts';

/** Copies; `logitTokens` says which row. */
export const selectRows: ReferenceKernel<'select-rows'> = ({ inputs: [x], outputs: [out] }, numRows, { batch }) => {
  for (let row = 0; row < numRows; row++) {
    const from = x.offset + batch.logitTokens[row] * x.stride;
    out.data.set(x.data.subarray(from, from + x.width), out.offset + row * out.stride);
  }
};
