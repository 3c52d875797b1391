/** Numbers of scale tensors, as f32. */

import { numberToF16 } from '../../base/dtype.ts';
import { f16Values } from '../../quant/formats/f16.ts';
import { weightFormats } from '../../quant/formats/index.ts';
import type { RawTensor } from '../safetensors.ts';
import { type RawTensors, wrongTensor } from './scheme.ts';

const formats = { F32: 'f32', F16: 'f16', BF16: 'bf16' } as const;
export const floatDtypes: readonly string[] = Object.keys(formats);

/** All elements of an F32, F16 or BF16 tensor. */
export function readFloats(tensors: RawTensors, tensor: RawTensor): Float32Array {
  if (!Object.hasOwn(formats, tensor.dtype)) throw wrongTensor(tensor, floatDtypes.join(', '), tensor.dtype);
  const out = new Float32Array(tensor.shape.reduce((a, b) => a * b, 1));
  weightFormats[formats[tensor.dtype as keyof typeof formats]].dequantize(tensors.read(tensor), out);
  return out;
}

/** Whether each is a finite number that f16 holds exactly. */
export function allExactInF16(values: Float32Array): boolean {
  const halves = f16Values();
  for (const value of values) if (!Number.isFinite(value) || halves[numberToF16(value)] !== value) return false;
  return true;
}
