import { numberToF16 } from '../../base/dtype.ts';
import { f16Values } from './f16.ts';
import type { WeightFormatDefinition } from './format.ts';

const GROUP = 32;
const BLOCK_BYTES = 34;

/** Groups of 32 signed bytes with one f16 scale in front: `value = scale * byte`. The Q8_0 of GGUF files. */
export const q8_0: WeightFormatDefinition = {
  blockElements: GROUP,
  blockBytes: BLOCK_BYTES,
  dequantize(bytes, out) {
    const scales = f16Values();
    for (let block = 0; block * GROUP < out.length; block++) {
      const at = block * BLOCK_BYTES;
      const scale = scales[bytes[at] | (bytes[at + 1] << 8)];
      for (let i = 0; i < GROUP; i++) out[block * GROUP + i] = scale * ((bytes[at + 2 + i] << 24) >> 24);
    }
  },
  quantize(values) {
    const bytes = new Uint8Array((values.length / GROUP) * BLOCK_BYTES);
    for (let block = 0; block * GROUP < values.length; block++) {
      const at = block * BLOCK_BYTES;
      let largest = 0;
      for (let i = 0; i < GROUP; i++) largest = Math.max(largest, Math.abs(values[block * GROUP + i]));
      const bits = numberToF16(largest / 127);
      const scale = f16Values()[bits];
      bytes[at] = bits & 0xff;
      bytes[at + 1] = bits >> 8;
      for (let i = 0; i < GROUP; i++) {
        const steps = scale === 0 ? 0 : Math.round(values[block * GROUP + i] / scale);
        bytes[at + 2 + i] = Math.max(-127, Math.min(127, steps));
      }
    }
    return bytes;
  },
};
