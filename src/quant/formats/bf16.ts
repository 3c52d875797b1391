import { numberToBf16 } from '../../base/dtype.ts';
import type { WeightFormatDefinition } from './format.ts';

/** bfloat16: the upper half of a binary32, little-endian. Packing rounds to nearest, ties to even. */
export const bf16: WeightFormatDefinition = {
  blockElements: 1,
  blockBytes: 2,
  dequantize(bytes, out) {
    const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
    for (let i = 0; i < bits.length; i++) bits[i] = (bytes[2 * i] << 16) | (bytes[2 * i + 1] << 24);
  },
  quantize: (values) => new Uint8Array(Uint16Array.from(values, numberToBf16).buffer),
};
