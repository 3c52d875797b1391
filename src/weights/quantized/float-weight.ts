/** Weights of FP8 numbers under scales of a tensor, of rows or of blocks, and of NF4. */
import { storedBytes } from '../../quant/formats/index.ts';
import { storeF32 } from '../../quant/formats/integer-groups.ts';
import type { RawTensor } from '../safetensors.ts';
import { type Assembly, type RawTensors, unsupported, wrongTensor } from './scheme.ts';

/** Scale of the block that an element lies in: `scales[floor(row / rowsPerScale), floor(column / columnsPerScale)]`. */
export interface BlockScales {
  readonly rowsPerScale: number;
  readonly columnsPerScale: number;
  /** Scales along a row of blocks. */
  readonly perRow: number;
  values(): Float32Array;
}

/** How scales of a shape cover a matrix. @throws WEIGHTS_FILE_INVALID */
export function coverOf(scale: RawTensor, rows: number, columns: number, block: readonly number[] | undefined): Omit<BlockScales, 'values'> {
  const elements = scale.shape.reduce((a, b) => a * b, 1);
  if (block !== undefined && block.length === 2) {
    const perRow = Math.ceil(columns / block[1]);
    if (scale.shape.length !== 2 || scale.shape[0] !== Math.ceil(rows / block[0]) || scale.shape[1] !== perRow) {
      throw wrongTensor(scale, `[${Math.ceil(rows / block[0])}, ${perRow}] for blocks of ${block.join(' x ')}`);
    }
    return { rowsPerScale: block[0], columnsPerScale: block[1], perRow };
  }
  if (elements === 1) return { rowsPerScale: rows, columnsPerScale: columns, perRow: 1 };
  if (scale.shape[0] === rows && elements % rows === 0 && columns % (elements / rows) === 0) {
    return { rowsPerScale: 1, columnsPerScale: (columns * rows) / elements, perRow: elements / rows };
  }
  throw wrongTensor(scale, `one scale, or [${rows}, 1] of rows, or [${rows}, groups]`);
}

/** @throws WEIGHTS_FORMAT_UNSUPPORTED when rows are not whole runs of 32, or a run has two scales */
export function assembleFp8(module: string, tensors: RawTensors, weight: RawTensor, scales: BlockScales): Assembly {
  const [rows, columns] = weight.shape;
  const { rowsPerScale, columnsPerScale, perRow } = scales;
  const isWhole = (length: number) => columns % length === 0 && (columnsPerScale % length === 0 || columnsPerScale >= columns);
  if (!isWhole(32)) throw unsupported(`rows of ${columns} and scales of ${columnsPerScale} columns in ${module}`, 'multiples of 32', String(columns));
  const group = isWhole(128) ? 128 : 32;
  const format = weight.dtype === 'F8_E5M2' ? (`fp8_e5m2_g${group}` as const) : (`fp8_g${group}` as const);
  return {
    format,
    shape: [rows, columns],
    readRows(first, count) {
      const values = scales.values();
      const stored = tensors.read({ ...weight, offset: weight.offset + first * columns, sizeBytes: count * columns });
      const bytes = new Uint8Array(storedBytes(format, count * columns));
      let at = 0;
      for (let row = 0; row < count; row++) {
        const scaleRow = Math.floor((first + row) / rowsPerScale) * perRow;
        for (let column = 0; column < columns; column += group, at += 4 + group) {
          storeF32(bytes, at, values[scaleRow + Math.floor(column / columnsPerScale)]);
          const from = row * columns + column;
          bytes.set(stored.subarray(from, from + group), at + 4);
        }
      }
      return bytes;
    },
  };
}
