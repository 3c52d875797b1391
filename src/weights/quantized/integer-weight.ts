/**
 * Weights of integers under scales: from what a checkpoint says of levels, scales and zero points to a format of the engine, exactly.
 *
 * Which format: `q4_0` or `q8_0`, which have kernels of their own, where every group is symmetric, a multiple of 32 long and its scale is exact in f16 (a
 * scale is then repeated every 32 elements); `int8_channel` for symmetric rows of 8 bits that are to meet activations of a scale a token (W8A8); else integer
 * groups of the longest length that divides the checkpoint's.
 */
import type { Activation, WeightFormat } from '../../plan/plan.ts';
import { storeF16 } from '../../quant/formats/blocks.ts';
import { storedBytes } from '../../quant/formats/index.ts';
import { type GroupScale, integerFormats, storeF32 } from '../../quant/formats/integer-groups.ts';
import type { RawTensor } from '../safetensors.ts';
import { readFloats } from './numbers.ts';
import { type Assembly, type RawTensors, unsupported, wordsOf } from './scheme.ts';

/** Rows whose levels are asked for at once: checkpoints interleave rows. */
export const ROW_TILE = 64;

/** Scales `[rows, groups]` and zero points of the same shape, null where each is the middle, `2 ** (bits - 1)`. */
export interface Scales {
  readonly values: Float32Array;
  readonly zeros: Uint8Array | null;
}

/** What a checkpoint says of one matrix. */
export interface IntegerWeight {
  readonly rows: number;
  readonly columns: number;
  readonly bits: 2 | 3 | 4 | 8;
  /** Columns under one scale, in the order of the columns as given. */
  readonly groupSize: number;
  readonly activation?: Activation;
  readonly columnOrder?: Uint32Array;
  /** Scales of all rows. Read for the choice of the format, then once for each stretch of rows. */
  scales(): Scales;
  /** Reads what levels are made from, once for each stretch of rows; the result writes unsigned levels of `count` (at most ROW_TILE) rows, row by row. */
  openLevels(): (first: number, count: number, out: Uint8Array) => void;
}

/** @throws WEIGHTS_FORMAT_UNSUPPORTED when groups are not whole runs of 32 */
export function assembleIntegers(module: string, weight: IntegerWeight, exactInF16: (values: Float32Array) => boolean): Assembly {
  const { rows, columns, bits, groupSize } = weight;
  if (columns % 32 !== 0 || groupSize % 32 !== 0) {
    throw unsupported(`rows of ${columns} and groups of ${groupSize} columns in ${module}`, 'multiples of 32', String(groupSize));
  }
  const { values, zeros } = weight.scales();
  const { activation, columnOrder } = weight;
  const isChannel = zeros === null && bits === 8 && groupSize === columns && activation === 'int8-token';
  const isSymmetric = zeros === null && (bits === 4 || bits === 8) && exactInF16(values);
  const format = isChannel ? 'int8_channel' : isSymmetric ? (bits === 4 ? 'q4_0' : 'q8_0') : groupFormat(bits, columns, groupSize);
  return {
    format,
    shape: [rows, columns],
    ...(activation === undefined ? {} : { activation }),
    ...(columnOrder === undefined ? {} : { columnOrder }),
    readRows: (first, count) => packRows(weight, format, first, count),
  };
}

function groupFormat(bits: 2 | 3 | 4 | 8, columns: number, groupSize: number): keyof typeof integerFormats {
  const lengths = bits === 8 ? ([128, 32] as const) : ([128, 64, 32] as const);
  const length = lengths.find((n) => groupSize % n === 0 && columns % n === 0) ?? 32;
  return `int${bits}_g${length}` as keyof typeof integerFormats;
}

function packRows(weight: IntegerWeight, format: WeightFormat, first: number, count: number): Uint8Array {
  const { columns, groupSize, bits } = weight;
  const { values, zeros } = weight.scales();
  const levelsOf = weight.openLevels();
  const rowBytes = storedBytes(format, columns);
  const bytes = new Uint8Array(rowBytes * count);
  const levels = new Uint8Array(ROW_TILE * columns);
  const groups = Math.ceil(columns / groupSize);
  const middle = 2 ** (bits - 1);
  const head: GroupScale = { scale: 0, zero: middle };
  const writeBlock = blockWriter(format);
  const { blockElements } = writeBlock;
  for (let tile = 0; tile < count; tile += ROW_TILE) {
    const some = Math.min(ROW_TILE, count - tile);
    levelsOf(first + tile, some, levels);
    for (let row = 0; row < some; row++) {
      const scaleRow = (first + tile + row) * groups;
      let at = (tile + row) * rowBytes;
      for (let column = 0; column < columns; column += blockElements, at += writeBlock.blockBytes) {
        const group = scaleRow + Math.floor(column / groupSize);
        head.scale = values[group];
        if (zeros !== null) head.zero = zeros[group];
        writeBlock.write(bytes, at, head, levels, row * columns + column);
      }
    }
  }
  return bytes;
}

interface BlockWriter {
  readonly blockElements: number;
  readonly blockBytes: number;
  write(bytes: Uint8Array, at: number, head: GroupScale, levels: Uint8Array, from: number): void;
}

function blockWriter(format: WeightFormat): BlockWriter {
  if (format === 'q4_0') {
    return {
      blockElements: 32,
      blockBytes: 18,
      write(bytes, at, { scale }, levels, from) {
        storeF16(bytes, at, scale);
        for (let i = 0; i < 16; i++) bytes[at + 2 + i] = levels[from + i] | (levels[from + 16 + i] << 4);
      },
    };
  }
  if (format === 'q8_0') {
    return {
      blockElements: 32,
      blockBytes: 34,
      write(bytes, at, { scale }, levels, from) {
        storeF16(bytes, at, scale);
        for (let i = 0; i < 32; i++) bytes[at + 2 + i] = levels[from + i] ^ 128;
      },
    };
  }
  if (format === 'int8_channel') {
    return {
      blockElements: 32,
      blockBytes: 36,
      write(bytes, at, { scale }, levels, from) {
        storeF32(bytes, at, scale);
        for (let i = 0; i < 32; i++) bytes[at + 4 + i] = levels[from + i] ^ 128;
      },
    };
  }
  const groups = integerFormats[format as keyof typeof integerFormats];
  return {
    blockElements: groups.blockElements,
    blockBytes: groups.blockBytes,
    write(bytes, at, { scale, zero }, levels, from) {
      groups.storeScale(bytes, at, scale, zero);
      groups.storeLevels(bytes, at, levels, from);
    },
  };
}

/** Zero points, or null when all are the middle. */
export function zerosOrMiddle(zeros: Uint8Array, bits: number): Uint8Array | null {
  const middle = 2 ** (bits - 1);
  return zeros.every((zero) => zero === middle) ? null : zeros;
}

/**
 * Scales and zero points that a checkpoint holds as `[groups, rows]`, turned to `[rows, groups]`. `zeroAt` reads the zero point of a row from
 * the packed words, those of its group beginning at `start`.
 */
export function scalesByGroup(
  tensors: RawTensors,
  scales: RawTensor,
  qzeros: RawTensor,
  bits: number,
  zeroAt: (words: Uint32Array, start: number, row: number) => number,
): Scales {
  const [groups, rows] = scales.shape;
  const given = readFloats(tensors, scales);
  const words = wordsOf(tensors.read(qzeros));
  const values = new Float32Array(rows * groups);
  const zeros = new Uint8Array(rows * groups);
  for (let group = 0; group < groups; group++) {
    for (let row = 0; row < rows; row++) {
      values[row * groups + group] = given[group * rows + row];
      zeros[row * groups + group] = zeroAt(words, group * qzeros.shape[1], row);
    }
  }
  return { values, zeros: zerosOrMiddle(zeros, bits) };
}
