import { f16ToNumber, numberToF16 } from '../../base/dtype.ts';
import type { WeightFormatDefinition } from './format.ts';

let table: Float32Array | undefined;

/** Value of every binary16 bit pattern: 256 KB, made at first use. */
export function f16Values(): Float32Array {
  table ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => f16ToNumber(bits));
  return table;
}

/** IEEE 754 binary16, little-endian. Packing rounds to nearest, ties to even. */
export const f16: WeightFormatDefinition = {
  blockElements: 1,
  blockBytes: 2,
  dequantize(bytes, out) {
    const values = f16Values();
    for (let i = 0; i < out.length; i++) out[i] = values[bytes[2 * i] | (bytes[2 * i + 1] << 8)];
  },
  quantize: (values) => new Uint8Array(Uint16Array.from(values, numberToF16).buffer),
};
