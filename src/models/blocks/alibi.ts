/**
 * Slopes of ALiBi, Press et al. 2022, arXiv:2108.12409: powers of `2^(-8 / n)` for the largest power of two n among the heads; those that are left
 * take every second power of the series for 2n.
 */
export function alibiSlopes(numHeads: number, factor = 1): Float32Array {
  const whole = 2 ** Math.floor(Math.log2(numHeads));
  const slope = (head: number) => (head < whole ? 2 ** ((-8 * (head + 1)) / whole) : 2 ** ((-4 * (2 * (head - whole) + 1)) / whole));
  return Float32Array.from({ length: numHeads }, (_, head) => slope(head) * factor);
}
