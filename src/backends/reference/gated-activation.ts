import type { GatedActivationAttrs } from '../../plan/ops/gated-activation.ts';
import type { ReferenceKernel } from './kernel.ts';

const SQRT_2_OVER_PI = Math.sqrt(2 / Math.PI);

/** Gaussian error function in f64: Taylor series near 0, continued fraction of the complement beyond (DLMF 7.6.1, 7.9.1). */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (z > 6) return Math.sign(x);
  if (z < 3) {
    let term = z;
    let sum = z;
    for (let n = 1; Math.abs(term) > 1e-17 * sum; n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI);
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / (Math.sqrt(Math.PI) * (z + fraction)));
}

/** In f64. */
export const functions: Record<GatedActivationAttrs['function'], (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  'gelu-tanh': (x) => 0.5 * x * (1 + Math.tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x))),
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
};

/** `f(gate) * up` in f64, rounded once. */
export const gatedActivation: ReferenceKernel<'gated-activation'> = ({ inputs: [gate, up], outputs: [out], attrs }, numRows) => {
  const f = functions[attrs.function];
  for (let row = 0; row < numRows; row++) {
    const [atGate, atUp, at] = [gate.offset + row * gate.stride, up.offset + row * up.stride, out.offset + row * out.stride];
    for (let i = 0; i < out.width; i++) out.data[at + i] = f(gate.data[atGate + i]) * up.data[atUp + i];
  }
};
