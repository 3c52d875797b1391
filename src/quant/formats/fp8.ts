import type { WeightFormatDefinition } from './format.ts';
import { loadF32, storeF32 } from './integer-groups.ts';

/** Largest finite E4M3. */
export const E4M3_MAX = 448;

/**
 * The 256 numbers of E4M3FN: sign, 4 bits of exponent under a bias of 7, 3 of fraction; subnormals, no infinities, NaN where all other bits are set.
 * Micikevicius et al., "FP8 Formats for Deep Learning" (2022).
 */
export const e4m3Values: Float32Array = Float32Array.from({ length: 256 }, (_, bits) => {
  const exponent = (bits >> 3) & 15;
  const fraction = bits & 7;
  if ((bits & 127) === 127) return NaN;
  const magnitude = exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10);
  return bits < 128 ? magnitude : -magnitude;
});

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** The E4M3 nearest to the value as f32, ties to even, saturating at 448. */
export function numberToE4m3(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0];
  const sign = (bits >>> 24) & 128;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 127;
  if (magnitude >= 0x43e00000) return sign | 126; // 448
  // below 2^-6: whole steps of 2^-9, rounded by the addition of 1.5 * 2^23 in f32
  if (magnitude < 0x3c800000) return sign | (Math.fround(Math.abs(scratch[0]) * 512 + 12582912) - 12582912);
  return sign | (((magnitude + 0x7ffff + ((magnitude >>> 20) & 1)) >>> 20) - (120 << 3));
}

/** Largest finite E5M2. */
export const E5M2_MAX = 57344;

/**
 * The 256 numbers of E5M2: sign, 5 bits of exponent under a bias of 15, 2 of fraction; subnormals, infinities and NaNs, as IEEE 754 has them. The same
 * source. It is the upper byte of a half.
 */
export const e5m2Values: Float32Array = Float32Array.from({ length: 256 }, (_, bits) => {
  const exponent = (bits >> 2) & 31;
  const fraction = bits & 3;
  const sign = bits < 128 ? 1 : -1;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -16 : (4 + fraction) * 2 ** (exponent - 17));
});

/** The E5M2 nearest to the value as f32, ties to even, saturating at 57344. */
export function numberToE5m2(value: number): number {
  scratch[0] = value;
  const bits = scratchBits[0];
  const sign = (bits >>> 24) & 128;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 127;
  if (magnitude >= 0x47600000) return sign | 123; // 57344
  // below 2^-14: whole steps of 2^-16, rounded by the addition of 1.5 * 2^23 in f32
  if (magnitude < 0x38800000) return sign | (Math.fround(Math.abs(scratch[0]) * 65536 + 12582912) - 12582912);
  return sign | (((magnitude + 0xfffff + ((magnitude >>> 21) & 1)) >>> 21) - (112 << 2));
}

/** One of the two kinds of numbers. */
interface Fp8Numbers {
  readonly max: number;
  readonly values: Float32Array;
  fromNumber(value: number): number;
}

const e4m3: Fp8Numbers = { max: E4M3_MAX, values: e4m3Values, fromNumber: numberToE4m3 };
const e5m2: Fp8Numbers = { max: E5M2_MAX, values: e5m2Values, fromNumber: numberToE5m2 };

/** Groups of numbers under an f32 scale in front: `value = scale * number`, rounded to f32 once. */
function fp8Groups({ max, values: numbers, fromNumber }: Fp8Numbers, group: 32 | 128): WeightFormatDefinition {
  const blockBytes = 4 + group;
  return {
    blockElements: group,
    blockBytes,
    dequantize(bytes, out) {
      for (let block = 0; block * group < out.length; block++) {
        const at = block * blockBytes;
        const scale = loadF32(bytes, at);
        for (let i = 0; i < group; i++) out[block * group + i] = scale * numbers[bytes[at + 4 + i]];
      }
    },
    /** The largest magnitude of a group becomes the largest number. */
    quantize(values) {
      const bytes = new Uint8Array((values.length / group) * blockBytes);
      for (let block = 0; block * group < values.length; block++) {
        const at = block * blockBytes;
        let largest = 0;
        for (let i = 0; i < group; i++) largest = Math.max(largest, Math.abs(values[block * group + i]));
        const scale = Math.fround(largest / max);
        storeF32(bytes, at, scale);
        for (let i = 0; i < group; i++) bytes[at + 4 + i] = scale === 0 ? 0 : fromNumber(values[block * group + i] / scale);
      }
      return bytes;
    },
  };
}

export const fp8_g32 = fp8Groups(e4m3, 32);
export const fp8_g128 = fp8Groups(e4m3, 128);
export const fp8_e5m2_g32 = fp8Groups(e5m2, 32);
export const fp8_e5m2_g128 = fp8Groups(e5m2, 128);
