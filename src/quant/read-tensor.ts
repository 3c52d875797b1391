/**
 * From the tensors of a checkpoint to the weight that a plan asks for: parts one under the other, rows in Hugging Face order, shifts applied,
 * converted to the format of the weight. Every backend reads weights through this file, so that they all hold the same numbers.
 *
 * The types are structural (`StoredTensor`, `WeightSource` and `Weight` fit them), since this room lies below theirs.
 */
import { MillraceError } from '../base/errors.ts';
import { storedBytes, type WeightFormatName, weightFormats } from './formats/index.ts';
import { roundTo } from './round.ts';

interface Tensor {
  readonly name: string;
  readonly format: WeightFormatName;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly sizeBytes: number;
  readonly rowOrder?: RowOrder;
  readonly shift?: number;
}

/** See `StoredTensor.rowOrder`; the two halves of a whole matrix in turn are one head. */
export interface RowOrder {
  readonly kind: 'rope-interleaved';
  readonly headDim: number;
}

interface TensorSource<T extends Tensor> {
  find(name: string): T | undefined;
  read(tensor: T): Uint8Array;
}

interface WantedWeight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly format: WeightFormatName;
  readonly parts: readonly {
    readonly tensor: string;
    readonly shape: readonly number[];
    readonly index?: number;
    readonly rows?: readonly [from: number, to: number];
    readonly transposed?: boolean;
    readonly interleaved?: boolean;
  }[];
}

/** One part of a weight, the tensor cut to the rows that it takes, with its place: rows `[firstRow, firstRow + numRows)`. Vectors are one column wide. */
export interface FoundPart<T> {
  readonly tensor: T;
  readonly firstRow: number;
  readonly numRows: number;
  /** The tensor holds rows as columns. */
  readonly transposed: boolean;
}

/**
 * Finds the tensors that make up a weight.
 * @throws WEIGHTS_TENSOR_MISSING, WEIGHTS_SHAPE_MISMATCH, WEIGHTS_FILE_INVALID (size does not fit the shape)
 */
export function findParts<T extends Tensor>(source: { find(name: string): T | undefined }, weight: WantedWeight): FoundPart<T>[] {
  let firstRow = 0;
  return weight.parts.map((part) => {
    const tensor = source.find(part.tensor);
    if (tensor === undefined) {
      throw new MillraceError('WEIGHTS_TENSOR_MISSING', { message: `The checkpoint holds no tensor ${part.tensor}, which ${weight.name} needs.` });
    }
    checkTensor(tensor, part.shape);
    const entry = part.index === undefined ? tensor : entryOf(tensor, part.index);
    const cut = part.rows === undefined ? entry : cutRows(entry, part.rows);
    const transposed = part.transposed === true;
    const numRows = cut.shape[transposed ? 1 : 0];
    const ordered = part.interleaved === true ? { ...cut, rowOrder: { kind: 'rope-interleaved' as const, headDim: numRows } } : cut;
    const found = { tensor: ordered, firstRow, numRows, transposed };
    firstRow += found.numRows;
    return found;
  });
}

/** One entry of the first dimension, where it lies. @throws WEIGHTS_SHAPE_MISMATCH when there is none, or it is not whole blocks */
function entryOf<T extends Tensor>(tensor: T, index: number): T {
  const [entries, ...shape] = tensor.shape;
  const elements = product(shape);
  if (index < 0 || index >= entries || shape.length === 0 || elements % weightFormats[tensor.format].blockElements !== 0) {
    throw new MillraceError('WEIGHTS_SHAPE_MISMATCH', {
      message: `Tensor ${tensor.name} has no entry ${index} of whole ${tensor.format} blocks.`,
      received: `[${tensor.shape.join(', ')}]`,
    });
  }
  return { ...tensor, shape, offset: tensor.offset + storedBytes(tensor.format, index * elements), sizeBytes: storedBytes(tensor.format, elements) };
}

/** A tensor of rows `[from, to)` of another, where it lies. @throws WEIGHTS_SHAPE_MISMATCH when they are not whole blocks or heads */
function cutRows<T extends Tensor>(tensor: T, [from, to]: readonly [number, number]): T {
  const { blockElements } = weightFormats[tensor.format];
  const headDim = tensor.rowOrder?.headDim ?? 1;
  const columns = tensor.shape[1] ?? 1;
  const whole = (row: number) => (row * columns) % blockElements === 0 && row % headDim === 0;
  if (from < 0 || to <= from || to > tensor.shape[0] || !whole(from) || !whole(to)) {
    throw new MillraceError('WEIGHTS_SHAPE_MISMATCH', {
      message: `Rows of tensor ${tensor.name} cannot be cut as the model needs them.`,
      expected: `whole blocks of ${blockElements} elements and whole heads, of ${tensor.shape[0]} rows`,
      received: `rows ${from} to ${to}`,
    });
  }
  const offset = tensor.offset + storedBytes(tensor.format, from * columns);
  return { ...tensor, shape: [to - from, ...tensor.shape.slice(1)], offset, sizeBytes: storedBytes(tensor.format, (to - from) * columns) };
}

function checkTensor(tensor: Tensor, shape: readonly number[]): void {
  if (tensor.shape.length !== shape.length || tensor.shape.some((length, i) => length !== shape[i])) {
    throw new MillraceError('WEIGHTS_SHAPE_MISMATCH', {
      message: `Tensor ${tensor.name} has another shape than the model's configuration says.`,
      expected: `[${shape.join(', ')}]`,
      received: `[${tensor.shape.join(', ')}]`,
    });
  }
  const { blockElements } = weightFormats[tensor.format];
  if (shape[shape.length - 1] % blockElements !== 0) {
    throw new MillraceError('WEIGHTS_SHAPE_MISMATCH', {
      message: `Rows of tensor ${tensor.name} are not whole ${tensor.format} blocks.`,
      expected: `a multiple of ${blockElements}`,
      received: String(shape[shape.length - 1]),
    });
  }
  const expected = storedBytes(tensor.format, product(shape));
  if (tensor.sizeBytes !== expected) {
    throw new MillraceError('WEIGHTS_FILE_INVALID', {
      message: `Tensor ${tensor.name} does not have the bytes of its shape.`,
      expected: `${expected} bytes`,
      received: `${tensor.sizeBytes}`,
    });
  }
}

/** The row of the file that holds row `row` of the Hugging Face order. */
export function fileRow(order: RowOrder | undefined, row: number): number {
  if (order === undefined) return row;
  const { headDim } = order;
  const within = row % headDim;
  const half = headDim / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

/**
 * A whole weight in its own format, row-major: what a kernel packs. Tensors stored otherwise are converted; a weight is copied unchanged
 * where the file has it as wanted.
 */
export function readWeight<T extends Tensor>(source: TensorSource<T>, weight: WantedWeight): Uint8Array {
  const columns = columnsOf(weight);
  const vector = weight.shape.length === 1;
  const bytes = new Uint8Array(storedBytes(weight.format, product(weight.shape)));
  for (const { tensor, firstRow, numRows, transposed } of findParts(source, weight)) {
    const at = storedBytes(weight.format, firstRow * columns);
    const convert =
      transposed || tensor.format !== weight.format || tensor.shift !== undefined || (vector && weightFormats[tensor.format].blockElements > 1);
    if (convert) bytes.set(readConverted(source, tensor, transposed, weight.format), at);
    else copyRows(source.read(tensor), bytes.subarray(at), tensor, numRows, storedBytes(tensor.format, columns));
  }
  return bytes;
}

/** A tensor, turned if it is stored so, in another format. */
export function readConverted<T extends Tensor>(
  source: { read(tensor: T): Uint8Array },
  tensor: T,
  transposed: boolean,
  format: WeightFormatName,
): Uint8Array {
  if (transposed) return roundTo(format, readTransposed(source, tensor), tensor.shape[0]);
  const [rows] = tensor.shape;
  const columns = product(tensor.shape.slice(1));
  const atOnce = Math.max(1, Math.floor(MOST_AT_ONCE / columns));
  if (tensor.rowOrder !== undefined || tensor.shape.length !== 2 || rows <= atOnce) return roundTo(format, readTensor(source, tensor), columns);
  const bytes = new Uint8Array(storedBytes(format, rows * columns));
  for (let row = 0; row < rows; row += atOnce) {
    const some = cutRows(tensor, [row, Math.min(rows, row + atOnce)]);
    bytes.set(roundTo(format, readTensor(source, some), columns), storedBytes(format, row * columns));
  }
  return bytes;
}

/** Elements that are held as f32 while a tensor is converted. */
const MOST_AT_ONCE = 1 << 22;

/** A tensor `[columns, rows]` as `[rows, columns]`, its rows in Hugging Face order. */
function readTransposed<T extends Tensor>(source: { read(tensor: T): Uint8Array }, { rowOrder, ...stored }: T): Float32Array {
  const values = readTensor(source, stored as unknown as T);
  const [columns, rows] = stored.shape;
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const from = fileRow(rowOrder, row);
    for (let column = 0; column < columns; column++) out[row * columns + column] = values[column * rows + from];
  }
  return out;
}

/** Elements of a row; 1 of a vector. */
function columnsOf({ shape }: WantedWeight): number {
  return shape.length === 1 ? 1 : shape[shape.length - 1];
}

/** A whole weight as f32: the numbers that a kernel of its format multiplies with. */
export function readWeightAsF32<T extends Tensor>(source: TensorSource<T>, weight: WantedWeight): Float32Array {
  const columns = columnsOf(weight);
  const out = new Float32Array(product(weight.shape));
  const { dequantize } = weightFormats[weight.format];
  for (const { tensor, firstRow, numRows, transposed } of findParts(source, weight)) {
    const part = out.subarray(firstRow * columns, (firstRow + numRows) * columns);
    if (transposed) part.set(readTransposed(source, tensor));
    else readTensorInto(source, tensor, part);
    const rounded = transposed || tensor.format !== weight.format || tensor.shift !== undefined;
    if (rounded && weight.format !== 'f32') dequantize(roundTo(weight.format, part, columns), part);
  }
  return out;
}

/** A tensor as f32, rows in Hugging Face order, shift applied. */
export function readTensor<T extends Tensor>(source: { read(tensor: T): Uint8Array }, tensor: T): Float32Array {
  const out = new Float32Array(product(tensor.shape));
  readTensorInto(source, tensor, out);
  return out;
}

function readTensorInto<T extends Tensor>(source: { read(tensor: T): Uint8Array }, tensor: T, out: Float32Array): void {
  const stored = tensor.rowOrder === undefined ? out : new Float32Array(out.length);
  weightFormats[tensor.format].dequantize(source.read(tensor), stored);
  if (tensor.shift !== undefined) for (let i = 0; i < stored.length; i++) stored[i] += tensor.shift;
  if (tensor.rowOrder === undefined) return;
  const columns = tensor.shape[1] ?? 1;
  for (let row = 0; row < tensor.shape[0]; row++) {
    const from = fileRow(tensor.rowOrder, row) * columns;
    out.set(stored.subarray(from, from + columns), row * columns);
  }
}

function copyRows(from: Uint8Array, to: Uint8Array, tensor: Tensor, numRows: number, rowBytes: number): void {
  if (tensor.rowOrder === undefined) {
    to.set(from);
    return;
  }
  for (let row = 0; row < numRows; row++) {
    const at = fileRow(tensor.rowOrder, row) * rowBytes;
    to.set(from.subarray(at, at + rowBytes), row * rowBytes);
  }
}

function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
