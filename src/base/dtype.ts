/** Number types of stored elements. `i32` is for ids only. */
export const dtypes = {
  f32: { bytes: 4 },
  f16: { bytes: 2 },
  bf16: { bytes: 2 },
  i32: { bytes: 4 },
} as const satisfies Record<string, { bytes: number }>;

export type Dtype = keyof typeof dtypes;

const f32Scratch = new Float32Array(1);
const u32Scratch = new Uint32Array(f32Scratch.buffer);

/** Rounds to the nearest bfloat16 (ties to even) and returns it as a number. NaN stays NaN. */
export function roundToBf16(value: number): number {
  return bf16ToNumber(numberToBf16(value));
}

/** Bits of the nearest bfloat16, ties to even. */
export function numberToBf16(value: number): number {
  f32Scratch[0] = value;
  const bits = u32Scratch[0];
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40; // quiet the NaN: rounding could carry it to infinity
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export function bf16ToNumber(bits: number): number {
  u32Scratch[0] = bits << 16;
  return f32Scratch[0];
}

/** Value of an IEEE 754 binary16 bit pattern. */
export function f16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Bits of the nearest binary16, ties to even; overflow goes to infinity. */
export function numberToF16(value: number): number {
  f32Scratch[0] = value;
  const bits = u32Scratch[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // subnormal: units of 2^-24, rounded to even by the addition of a large power of two
    f32Scratch[0] = Math.abs(f32Scratch[0]) + 0.5;
    return sign | (u32Scratch[0] - 0x3f000000);
  }
  const rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1);
  return sign | (rounded >>> 13);
}
