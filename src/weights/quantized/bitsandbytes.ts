/**
 * Checkpoints of bitsandbytes.
 *
 * NF4 (Dettmers et al., "QLoRA", 2023): `<module>.weight` U8, two elements a byte, the earlier in the high nibble; `weight.absmax`, the largest magnitude of
 * each 64 (or more) elements in the order of the flattened matrix: F32, or U8 indices into `weight.nested_quant_map` under `weight.nested_absmax` of 256
 * of them plus an offset (double quantisation); `weight.quant_state.bitsandbytes__nf4`, JSON with the shape.
 * `weight = absmax * level`.
 *
 * Int8 (Dettmers et al., "LLM.int8()", 2022): `weight` I8 `[rows, columns]` and `SCB` F32 `[rows]`, `weight = level * SCB / 127`. Activations are not
 * quantised as coarsely as there, so that no column needs to be kept apart.
 */

import { storedBytes } from '../../quant/formats/index.ts';
import { storeF32 } from '../../quant/formats/integer-groups.ts';
import { nf4Levels } from '../../quant/formats/nf4.ts';
import { parseBoundedObject } from '../bounded-json.ts';
import type { RawTensor } from '../safetensors.ts';
import { assembleIntegers } from './integer-weight.ts';
import { allExactInF16, readFloats } from './numbers.ts';
import { type Assembly, type QuantScheme, type RawTensors, requireRaw, unsupported, wrongTensor } from './scheme.ts';
import { SettingsReader } from './settings.ts';

export const bitsandbytes: QuantScheme = {
  method: 'bitsandbytes',
  suffixes: [],
  assemble(module, tensors) {
    if (tensors.raw(`${module}.SCB`) !== undefined) return assembleInt8(module, tensors);
    const state = tensors.raw(`${module}.weight.quant_state.bitsandbytes__nf4`);
    if (state !== undefined) return assembleNf4(module, tensors, state);
    if (tensors.raw(`${module}.weight.quant_state.bitsandbytes__fp4`) !== undefined) throw unsupported('bitsandbytes', 'nf4 or int8', 'fp4');
    return undefined;
  },
};

function assembleInt8(module: string, tensors: RawTensors): Assembly {
  const weight = requireRaw(tensors, `${module}.weight`, ['I8'], 2);
  const scb = requireRaw(tensors, `${module}.SCB`, ['F32']);
  const [rows, columns] = weight.shape;
  const layout = tensors.raw(`${module}.weight_format`);
  if (layout !== undefined && tensors.read(layout)[0] !== 0) throw unsupported(`bitsandbytes int8 of ${module}`, 'rows in order', 'a tiled layout');
  if (scb.shape.length !== 1 || scb.shape[0] !== rows) throw wrongTensor(scb, `[${rows}]`);
  return assembleIntegers(
    module,
    {
      rows,
      columns,
      bits: 8,
      groupSize: columns,
      scales: () => ({ values: readFloats(tensors, scb).map((largest) => largest / 127), zeros: null }),
      openLevels: () => signedBytes(tensors, weight),
    },
    allExactInF16,
  );
}

/** Levels of an I8 matrix, 128 more than stored. Rows are read as they are asked for. */
export function signedBytes(tensors: RawTensors, weight: RawTensor) {
  const columns = weight.shape[1];
  return (first: number, count: number, out: Uint8Array) => {
    const bytes = tensors.read({ ...weight, offset: weight.offset + first * columns, sizeBytes: count * columns });
    for (let i = 0; i < bytes.length; i++) out[i] = bytes[i] ^ 128;
  };
}

function assembleNf4(module: string, tensors: RawTensors, stateTensor: RawTensor): Assembly {
  const weight = requireRaw(tensors, `${module}.weight`, ['U8']);
  const state = new SettingsReader(parseBoundedObject(stateTensor.file, stateTensor.name, tensors.read(stateTensor)), 'quant_state');
  const shape = state.integers('shape') ?? [];
  const blockSize = state.integer('blocksize') ?? 64;
  const [rows, columns] = shape;
  const elements = rows * columns;
  if (shape.length !== 2 || weight.sizeBytes !== Math.ceil(elements / 2)) throw wrongTensor(weight, `4-bit numbers of ${shape.join(' x ')}`);
  if (columns % 64 !== 0 || blockSize % 64 !== 0)
    throw unsupported(`NF4 of ${module}`, 'rows and blocks of a multiple of 64', `${columns}, ${blockSize}`);
  checkLevels(module, tensors);
  const largest = absmaxReader(module, tensors, Math.ceil(elements / blockSize), state);
  return {
    format: 'nf4',
    shape: [rows, columns],
    readRows(first, count) {
      const all = largest();
      const stored = tensors.read({ ...weight, offset: weight.offset + (first * columns) / 2, sizeBytes: (count * columns) / 2 });
      const bytes = new Uint8Array(storedBytes('nf4', count * columns));
      for (let block = 0; block * 64 < count * columns; block++) {
        storeF32(bytes, block * 36, all[Math.floor((first * columns + block * 64) / blockSize)]);
        bytes.set(stored.subarray(block * 32, block * 32 + 32), block * 36 + 4);
      }
      return bytes;
    },
  };
}

/** The table beside the weight must be that of NF4. */
function checkLevels(module: string, tensors: RawTensors): void {
  const tensor = tensors.raw(`${module}.weight.quant_map`);
  if (tensor === undefined) return;
  const map = readFloats(tensors, tensor);
  if (map.length !== 16 || map.some((value, i) => Math.abs(value - nf4Levels[i]) > 1e-6)) {
    throw unsupported(`bitsandbytes 4-bit of ${module}`, 'the levels of NF4', [...map.subarray(0, 4)].join(', '));
  }
}

function absmaxReader(module: string, tensors: RawTensors, blocks: number, state: SettingsReader): () => Float32Array {
  const absmax = requireRaw(tensors, `${module}.weight.absmax`, ['F32', 'U8']);
  if (absmax.shape.reduce((a, b) => a * b, 1) !== blocks) throw wrongTensor(absmax, `${blocks} blocks`);
  if (absmax.dtype === 'F32') return () => readFloats(tensors, absmax);
  const nestedSize = state.integer('nested_blocksize') ?? 256;
  const offset = state.number('nested_offset') ?? 0;
  const map = requireRaw(tensors, `${module}.weight.nested_quant_map`, ['F32'], 1);
  const nested = requireRaw(tensors, `${module}.weight.nested_absmax`, ['F32'], 1);
  if (map.shape[0] !== 256) throw wrongTensor(map, '[256]');
  if (nestedSize < 1 || nested.shape[0] !== Math.ceil(blocks / nestedSize))
    throw wrongTensor(nested, `[${Math.ceil(blocks / Math.max(1, nestedSize))}]`);
  return () => {
    const levels = readFloats(tensors, map);
    const scales = readFloats(tensors, nested);
    const indices = tensors.read(absmax);
    const out = new Float32Array(blocks);
    for (let i = 0; i < blocks; i++) out[i] = Math.fround(levels[indices[i]] * scales[Math.floor(i / nestedSize)]) + offset;
    return out;
  };
}
