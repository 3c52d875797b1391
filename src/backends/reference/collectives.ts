import type { Matrix, ReferenceKernel } from './kernel.ts';

type Collective = 'all-reduce' | 'all-gather' | 'all-to-all' | 'send' | 'recv';

/** At world size 1, the only one that this backend compiles, every collective is the identity (S5). */
export const identity: ReferenceKernel<Collective> = ({ inputs: [x], outputs: [out] }, numRows) => copyRows(x, out, numRows);

function copyRows(x: Matrix, out: Matrix, numRows: number): void {
  for (let row = 0; row < numRows; row++) {
    const from = x.offset + row * x.stride;
    out.data.set(x.data.subarray(from, from + out.width), out.offset + row * out.stride);
  }
}
