import type { ReferenceKernel } from './kernel.ts';

/** In f64, rounded once. A NaN stays one: Math.min and Math.max keep it. */
export const clampedSwiglu: ReferenceKernel<'clamped-swiglu'> = ({ inputs: [gate, up], outputs: [out], attrs: { alpha, limit } }, numRows) => {
  for (let row = 0; row < numRows; row++) {
    const [atGate, atUp, at] = [gate.offset + row * gate.stride, up.offset + row * up.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) {
      const g = Math.min(gate.data[atGate + i], limit);
      const u = Math.max(-limit, Math.min(limit, up.data[atUp + i]));
      out.data[at + i] = (g / (1 + Math.exp(-alpha * g))) * (u + 1);
    }
  }
};
