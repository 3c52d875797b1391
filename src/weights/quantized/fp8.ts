/**
 * FP8 checkpoints: `<module>.weight` in F8_E4M3 or F8_E5M2 and its scale, by which it is multiplied, in one of the spellings in use:
 *
 * - `weight_scale_inv` `[rows / 128, columns / 128]`: blocks, as DeepSeek-V3 stores them (`weight_block_size`)
 * - `weight_scale`: one number (AutoFP8, ModelOpt) or one a row (`fbgemm_fp8`)
 *
 * F8_E5M2, whose range is that of a half, may stand without a scale: a cast, also in checkpoints whose configuration says nothing of quantisation.
 * The scales of activations (`input_scale`) are for hardware that multiplies FP8: here activations keep the finer numbers that they have.
 */
import { assembleFp8, coverOf } from './float-weight.ts';
import { floatDtypes, readFloats } from './numbers.ts';
import { type Assembly, type QuantScheme, type RawTensors, requireRaw, wrongTensor } from './scheme.ts';
import type { SettingsReader } from './settings.ts';

export function fp8(settings: SettingsReader, method: string): QuantScheme {
  const block = settings.integers('weight_block_size');
  return { method, suffixes: [], assemble: (module, tensors) => assembleScaled(module, tensors, block) };
}

/** The FP8 weight of a module with the scale that lies beside it, or undefined where it is of another number type. */
export function assembleScaled(module: string, tensors: RawTensors, block: readonly number[] | undefined): Assembly | undefined {
  const weight = tensors.raw(`${module}.weight`);
  if (weight === undefined || (weight.dtype !== 'F8_E4M3' && weight.dtype !== 'F8_E5M2')) return undefined;
  if (weight.shape.length !== 2) throw wrongTensor(weight, '2 dimensions');
  const [rows, columns] = weight.shape;
  const inBlocks = tensors.raw(`${module}.weight_scale_inv`) !== undefined;
  if (weight.dtype === 'F8_E5M2' && !inBlocks && tensors.raw(`${module}.weight_scale`) === undefined) {
    return assembleFp8(module, tensors, weight, { rowsPerScale: rows, columnsPerScale: columns, perRow: 1, values: () => Float32Array.of(1) });
  }
  const scale = requireRaw(tensors, `${module}.${inBlocks ? 'weight_scale_inv' : 'weight_scale'}`, floatDtypes);
  const cover = coverOf(scale, rows, columns, inBlocks || scale.shape.length === 2 ? blockOf(block, scale.shape, rows, columns) : undefined);
  return assembleFp8(module, tensors, weight, { ...cover, values: () => readFloats(tensors, scale) });
}

/** Blocks where the scales are those of blocks, not of rows. */
function blockOf(block: readonly number[] | undefined, shape: readonly number[], rows: number, columns: number): readonly number[] | undefined {
  if (block === undefined || block.length !== 2) return undefined;
  return shape.length === 2 && shape[0] === Math.ceil(rows / block[0]) && shape[1] === Math.ceil(columns / block[1]) ? block : undefined;
}
