/** The 12 bytes of Q4_K and Q5_K blocks that hold eight 6-bit scales and eight 6-bit minimums, and the packing of values under them. */
import { level, loadF16, range, storeF16 } from './blocks.ts';

/** 6-bit scale of group `j` of 8. */
export function scaleOf(bytes: Uint8Array, at: number, j: number): number {
  return j < 4 ? bytes[at + j] & 63 : (bytes[at + j + 4] & 15) | ((bytes[at + j - 4] >> 6) << 4);
}

/** 6-bit minimum of group `j` of 8. */
export function minimumOf(bytes: Uint8Array, at: number, j: number): number {
  return j < 4 ? bytes[at + j + 4] & 63 : (bytes[at + j + 4] >> 4) | ((bytes[at + j] >> 6) << 4);
}

/** Both of group `j`; low four groups before the high ones, whose top bits share their bytes. */
function storeScales(bytes: Uint8Array, at: number, j: number, scale: number, minimum: number): void {
  if (j < 4) {
    bytes[at + j] |= scale;
    bytes[at + j + 4] |= minimum;
  } else {
    bytes[at + j + 4] = (scale & 15) | ((minimum & 15) << 4);
    bytes[at + j - 4] |= (scale >> 4) << 6;
    bytes[at + j] |= (minimum >> 4) << 6;
  }
}

/**
 * Writes the head of a Q4_K or Q5_K block (f16 scale of scales, f16 scale of minimums, 12 bytes) and gives each element's level, rounded to nearest,
 * to `put`.
 */
export function encodeAffineGroups(
  values: Float32Array,
  from: number,
  bytes: Uint8Array,
  at: number,
  highest: number,
  put: (element: number, level: number) => void,
): void {
  const groups = Array.from({ length: 8 }, (_, j) => {
    const { least, most } = range(values, from + 32 * j, 32);
    const minimum = Math.max(0, -least);
    return { minimum, step: Math.max(0, most + minimum) / highest };
  });
  storeF16(bytes, at, Math.max(...groups.map((group) => group.step)) / 63);
  storeF16(bytes, at + 2, Math.max(...groups.map((group) => group.minimum)) / 63);
  const scale = loadF16(bytes, at);
  const minimumScale = loadF16(bytes, at + 2);
  groups.forEach(({ step, minimum }, j) => {
    const steps = level(step, scale, 0, 63);
    const minimums = level(minimum, minimumScale, 0, 63);
    storeScales(bytes, at + 4, j, steps, minimums);
    for (let i = 32 * j; i < 32 * j + 32; i++) put(i, level(values[from + i] + minimumScale * minimums, scale * steps, 0, highest));
  });
}
