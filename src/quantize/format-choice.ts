/** In which format a matrix is written. */
import { MillraceError } from '../base/errors.ts';
import { formatToHold, type OuterTensors, type QuantizeTarget } from '../engine/quantize-at-load.ts';
import type { WeightFormat } from '../plan/plan.ts';
import type { RemappedTensor } from './remap.ts';

/** What the user asks for. */
export interface FormatChoice {
  /** Rounds what is float. */
  readonly quantize: QuantizeTarget;
  /** Takes the place of formats that the target cannot hold. Without it they are refused: nothing grows or is rounded unasked. */
  readonly dtype?: 'f32' | 'f16' | 'bf16';
}

const floats: readonly WeightFormat[] = ['f32', 'f16', 'bf16'];

/**
 * The format that the numbers have already, or are rounded to as asked; f32 where floats of several kinds come together.
 * @param canHold whether the target has a place for a format
 * @throws WEIGHTS_FORMAT_UNSUPPORTED naming the tensor
 */
export function chooseFormat(
  { name, rows, columns, made }: RemappedTensor,
  { quantize, dtype }: FormatChoice,
  outer: OuterTensors,
  canHold: (format: WeightFormat) => boolean,
): WeightFormat {
  const ordered = made.find(({ columnOrder }) => columnOrder !== undefined);
  if (ordered !== undefined) {
    throw new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
      message: `Tensor ${ordered.name} was quantised in act-order: its columns lie in groups that GGUF files cannot say.`,
      expected: 'groups of neighbouring columns',
      received: 'desc_act',
      hint: 'write safetensors (--to safetensors), or convert the unquantised original',
    });
  }
  const formats = [...new Set(made.map((stored) => formatToHold(name, { ...stored, shape: [rows, columns] }, quantize, outer)))];
  if (formats.length === 1 && canHold(formats[0])) return formats[0];
  if (formats.length > 1 && formats.every((format) => floats.includes(format))) return 'f32';
  if (dtype !== undefined) return dtype;
  throw new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
    message: `Tensor ${name} cannot be written without other numbers or more space.`,
    expected: 'one format, which the target has too',
    received: formats.join(' and '),
    hint: 'pass --dtype bfloat16 (or float32, which is exact) to widen such tensors, which takes up to eight times the space',
  });
}
