import type { WeightFormatDefinition } from './format.ts';

/** IEEE 754 binary32, little-endian. */
export const f32: WeightFormatDefinition = {
  blockElements: 1,
  blockBytes: 4,
  dequantize: (bytes, out) => new Uint8Array(out.buffer, out.byteOffset, bytes.length).set(bytes),
  quantize: (values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength).slice(),
};
