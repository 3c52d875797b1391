/**
 * Weights in the engine's formats as tensors of a safetensors file: floats as they are, groups of integers and FP8 as compressed-tensors stores them, so that
 * other engines can read them too. Reading them back gives the same numbers.
 */
import { MillraceError } from '../base/errors.ts';
import type { WeightFormat } from '../plan/plan.ts';
import { storedBytes, weightFormats } from '../quant/formats/index.ts';
import { type GroupScale, integerFormats } from '../quant/formats/integer-groups.ts';
import type { OutputGroup, OutputTensor } from './safetensors-writer.ts';

/** One matrix to store. */
export interface MatrixToStore {
  /** Name of the tensor, `<module>.weight`. */
  readonly name: string;
  readonly format: WeightFormat;
  readonly shape: readonly [rows: number, columns: number];
  readonly columnOrder?: Uint32Array;
  /** All of it in `format`. */
  read(): Uint8Array;
}

/** The entry of `config_groups` that describes a format; null for floats. */
export interface StoredScheme {
  readonly type: 'int' | 'float';
  readonly bits: number;
  /** Columns under one scale; null for whole rows. */
  readonly groupSize: number | null;
  readonly symmetric: boolean;
  readonly ordered: boolean;
  /** The checkpoint asks for int8 activations of a scale a token (W8A8). */
  readonly tokenActivations?: true;
}

const floats: Partial<Record<WeightFormat, OutputTensor['dtype']>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' };

function isFp8(format: WeightFormat): boolean {
  return /^fp8_/.test(format);
}

/** How a format is stored. @throws WEIGHTS_FORMAT_UNSUPPORTED for those that safetensors have no convention for */
export function schemeOf(format: WeightFormat, ordered: boolean): StoredScheme | null {
  if (floats[format] !== undefined) return null;
  if (format === 'q4_0' || format === 'q8_0') return { type: 'int', bits: format === 'q4_0' ? 4 : 8, groupSize: 32, symmetric: true, ordered };
  if (isFp8(format)) return { type: 'float', bits: 8, groupSize: weightFormats[format].blockElements, symmetric: true, ordered };
  if (format === 'int8_channel') return { type: 'int', bits: 8, groupSize: null, symmetric: true, ordered, tokenActivations: true };
  const groups = (integerFormats as Partial<Record<string, (typeof integerFormats)['int4_g32']>>)[format];
  if (groups !== undefined && 32 % groups.bits === 0) {
    return { type: 'int', bits: groups.bits, groupSize: groups.blockElements, symmetric: false, ordered };
  }
  throw new MillraceError('WEIGHTS_FORMAT_UNSUPPORTED', {
    message: `Weights of format ${format} cannot be written as safetensors.`,
    expected: 'F32, F16, BF16, 2, 4 or 8-bit integers in groups, or FP8',
    received: format,
    hint: 'pass --dtype bfloat16 to widen them, which takes up to eight times the space, or convert the unquantised original of the model',
  });
}

/** Whether safetensors have a place for a format, numbers unchanged. */
export function isStorable(format: WeightFormat): boolean {
  const groups = (integerFormats as Partial<Record<string, { bits: number }>>)[format];
  if (groups !== undefined) return 32 % groups.bits === 0;
  return floats[format] !== undefined || ['q4_0', 'q8_0', 'int8_channel'].includes(format) || isFp8(format);
}

/** The tensors of one matrix. */
export function storeMatrix(matrix: MatrixToStore): OutputGroup {
  const { name, format, shape, columnOrder } = matrix;
  const scheme = schemeOf(format, columnOrder !== undefined);
  if (scheme === null) {
    const sizeBytes = storedBytes(format, shape[0] * shape[1]);
    return { tensors: [{ name, dtype: floats[format] ?? 'F32', shape, sizeBytes }], produce: () => [matrix.read()] };
  }
  const { groupSize } = scheme;
  if (groupSize === null) return storeChannels(matrix);
  return scheme.type === 'float' ? storeFp8(matrix, groupSize) : storeIntegers(matrix, { ...scheme, groupSize });
}

/** Rows of I8 under a scale each: int-quantized. */
function storeChannels({ name, shape: [rows, columns], read }: MatrixToStore): OutputGroup {
  return {
    tensors: [
      { name, dtype: 'I8', shape: [rows, columns], sizeBytes: rows * columns },
      { name: `${name}_scale`, dtype: 'F32', shape: [rows, 1], sizeBytes: rows * 4 },
    ],
    produce() {
      const bytes = read();
      const levels = new Uint8Array(rows * columns);
      const scales = new Uint8Array(rows * 4);
      const { blockElements, blockBytes } = weightFormats.int8_channel;
      for (let block = 0; block * blockElements < levels.length; block++) {
        const at = block * blockBytes;
        levels.set(bytes.subarray(at + 4, at + blockBytes), block * blockElements);
        if ((block * blockElements) % columns === 0) scales.set(bytes.subarray(at, at + 4), ((block * blockElements) / columns) * 4);
      }
      return [levels, scales];
    },
  };
}

function storeFp8({ name, format, shape: [rows, columns], read }: MatrixToStore, groupSize: number): OutputGroup {
  const groups = columns / groupSize;
  return {
    tensors: [
      { name, dtype: format.startsWith('fp8_e5m2') ? 'F8_E5M2' : 'F8_E4M3', shape: [rows, columns], sizeBytes: rows * columns },
      { name: `${name}_scale`, dtype: 'F32', shape: [rows, groups], sizeBytes: rows * groups * 4 },
    ],
    produce() {
      const bytes = read();
      const levels = new Uint8Array(rows * columns);
      const scales = new Uint8Array(rows * groups * 4);
      for (let block = 0; block < rows * groups; block++) {
        const at = block * (4 + groupSize);
        scales.set(bytes.subarray(at, at + 4), block * 4);
        levels.set(bytes.subarray(at + 4, at + 4 + groupSize), block * groupSize);
      }
      return [levels, scales];
    },
  };
}

function storeIntegers(matrix: MatrixToStore, { bits, groupSize, symmetric }: StoredScheme & { groupSize: number }): OutputGroup {
  const { name, shape, columnOrder } = matrix;
  const [rows, columns] = shape;
  const groups = columns / groupSize;
  const perWord = 32 / bits;
  const zeroRows = Math.ceil(rows / perWord);
  const scaleBytes = symmetric ? 2 : 4; // f16 as Q4_0 and Q8_0 have it, else f32
  const tensors: OutputTensor[] = [
    { name: `${name}_packed`, dtype: 'I32', shape: [rows, columns / perWord], sizeBytes: (rows * columns * bits) / 8 },
    { name: `${name}_scale`, dtype: symmetric ? 'F16' : 'F32', shape: [rows, groups], sizeBytes: rows * groups * scaleBytes },
    { name: `${name}_shape`, dtype: 'I64', shape: [2], sizeBytes: 16 },
  ];
  if (!symmetric) tensors.push({ name: `${name}_zero_point`, dtype: 'I32', shape: [zeroRows, groups], sizeBytes: zeroRows * groups * 4 });
  if (columnOrder !== undefined) tensors.push({ name: `${name}_g_idx`, dtype: 'I32', shape: [columns], sizeBytes: columns * 4 });
  return {
    tensors,
    produce() {
      const packed = new Uint32Array((rows * columns) / perWord);
      const scales = new Uint8Array(rows * groups * scaleBytes);
      const zeros = new Uint32Array(zeroRows * groups);
      const levels = new Uint8Array(columns);
      const bytes = matrix.read();
      const rowBytes = storedBytes(matrix.format, columns);
      const readRow = rowReader(matrix.format, columns);
      for (let row = 0; row < rows; row++) {
        readRow(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), levels, (group, scale, zero) => {
          scales.set(scale, (row * groups + group) * scaleBytes);
          zeros[Math.floor(row / perWord) * groups + group] |= zero << ((row % perWord) * bits);
        });
        for (let place = 0; place < columns; place++) {
          const column = columnOrder === undefined ? place : columnOrder[place];
          packed[(row * columns + column - (column % perWord)) / perWord] |= levels[place] << ((column % perWord) * bits);
        }
      }
      const out = [asBytes(packed), scales, asBytes(BigInt64Array.from([BigInt(rows), BigInt(columns)]))];
      if (!symmetric) out.push(asBytes(zeros));
      if (columnOrder !== undefined) out.push(asBytes(groupOfColumns(columnOrder, groupSize)));
      return out;
    },
  };
}

function groupOfColumns(order: Uint32Array, groupSize: number): Int32Array {
  const groups = new Int32Array(order.length);
  order.forEach((column, place) => {
    groups[column] = Math.floor(place / groupSize);
  });
  return groups;
}

function asBytes({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
}

type OnGroup = (group: number, scale: Uint8Array, zero: number) => void;

/** Unsigned levels of a row of blocks, and scale (as stored in the file) and zero point of each group. */
function rowReader(format: WeightFormat, columns: number): (row: Uint8Array, levels: Uint8Array, onGroup: OnGroup) => void {
  const { blockElements, blockBytes } = weightFormats[format];
  const groups = columns / blockElements;
  if (format === 'q4_0' || format === 'q8_0') {
    return (row, levels, onGroup) => {
      for (let group = 0; group < groups; group++) {
        const at = group * blockBytes;
        onGroup(group, row.subarray(at, at + 2), 0);
        for (let i = 0; i < 32; i++) {
          levels[group * 32 + i] = format === 'q8_0' ? row[at + 2 + i] ^ 128 : i < 16 ? row[at + 2 + i] & 15 : row[at + 2 + i - 16] >> 4;
        }
      }
    };
  }
  const definition = integerFormats[format as keyof typeof integerFormats];
  const head: GroupScale = { scale: 0, zero: 0 };
  return (row, levels, onGroup) => {
    for (let group = 0; group < groups; group++) {
      definition.loadScale(row, group * blockBytes, head);
      definition.loadLevels(row, group * blockBytes, levels, group * blockElements);
      onGroup(group, asBytes(Float32Array.of(head.scale)), head.zero);
    }
  };
}
