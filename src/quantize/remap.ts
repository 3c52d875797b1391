/**
 * One model under two spellings: the tensors of a second plan put together from those of a first. Both plans must compute the same; what may differ is which
 * tensors of a checkpoint their weights are made of (q, k, v in one or apart, experts one by one or stacked, matrices turned, rows in another order).
 */
import { MillraceError } from '../base/errors.ts';
import type { Plan, Weight, WeightFormat, WeightPart } from '../plan/plan.ts';
import { storedBytes } from '../quant/formats/index.ts';
import { readWeight } from '../quant/read-tensor.ts';
import type { StoredTensor, WeightSource } from '../weights/weight-source.ts';

/** A tensor of the second spelling. */
export interface RemappedTensor {
  readonly name: string;
  /** Slowest dimension first, as the plan says. */
  readonly shape: readonly number[];
  /** Rows and columns of it as a stack; a vector is one column. */
  readonly rows: number;
  readonly columns: number;
  /** Of vectors and their like, which every plan holds as f32. */
  readonly isVector: boolean;
  /** The tensors of the source that it is made of. */
  readonly made: readonly StoredTensor[];
  /** All of it, rows as the plan has them. Numbers that are in `format` already are not touched. */
  read(format: WeightFormat): Uint8Array;
}

interface Piece {
  readonly weight: Weight;
  readonly from: number;
  readonly to: number;
  /** Row of the tensor where these rows lie. */
  readonly at: number;
}

/** Attributes that a file holds as f32 may be off by a rounding. */
const ROUNDING = 1e-6;

/**
 * Where two plans compute something else, in a word; null when they compute the same.
 */
export function differenceOf(a: Plan, b: Plan): string | null {
  // names follow the spelling; the order is that of what a model does
  const weight = a.weights.findIndex((one, i) => !isSame(one.shape, b.weights[i]?.shape));
  if (weight >= 0 || a.weights.length !== b.weights.length) return `the weight ${(a.weights[weight] ?? b.weights[a.weights.length]).name}`;
  const node = a.nodes.findIndex((one, i) => !isSame(one, b.nodes[i]));
  if (node >= 0 || a.nodes.length !== b.nodes.length) return a.nodes[node]?.name ?? 'the number of operations';
  const constant = a.constants.findIndex((one, i) => !isSame(one, b.constants[i]));
  if (constant >= 0 || a.constants.length !== b.constants.length) return a.constants[constant]?.name ?? 'the number of constants';
  return isSame(a.cacheGroups, b.cacheGroups) ? null : 'the attention windows';
}

function isSame(a: unknown, b: unknown): boolean {
  if (typeof a === 'number' && typeof b === 'number') return a === b || Math.abs(a - b) <= ROUNDING * Math.max(Math.abs(a), Math.abs(b));
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return a === b;
  const [left, right] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const keys = Object.keys(left);
  return keys.length === Object.keys(right).length && keys.every((key) => isSame(left[key], right[key]));
}

/**
 * The tensors of `to`, made of those of `from`. Order is that of the plan.
 * @throws INTERNAL when the plans do not fit: see `differenceOf` first; CONFIG_INVALID for a spelling that cannot be written
 */
export function remap(from: Plan, source: WeightSource, to: Plan): RemappedTensor[] {
  const tensors = new Map<string, { part: WeightPart; isVector: boolean; pieces: Piece[] }>();
  to.weights.forEach((weight, i) => {
    let first = 0;
    for (const part of weight.parts) {
      if (part.transposed === true || part.interleaved === true) {
        throw new MillraceError('CONFIG_INVALID', { message: `Tensor ${part.tensor} would have to be written turned, which is not done.` });
      }
      const rows = rowsOf(part);
      const perEntry = part.shape[part.index === undefined ? 0 : 1];
      const at = (part.index ?? 0) * perEntry + (part.rows?.[0] ?? 0);
      const entry = tensors.get(part.tensor) ?? { part, isVector: weight.shape.length === 1, pieces: [] };
      tensors.set(part.tensor, entry);
      if (!entry.pieces.some((piece) => piece.at === at)) entry.pieces.push({ weight: from.weights[i], from: first, to: first + rows, at });
      first += rows;
    }
  });
  return [...tensors].map(([name, { part, isVector, pieces }]) => {
    const columns = isVector ? 1 : (part.shape[part.shape.length - 1] ?? 1);
    const rows = part.shape.reduce((a, b) => a * b, 1) / columns;
    const covered = pieces.reduce((sum, piece) => sum + piece.to - piece.from, 0);
    if (covered !== rows) throw new MillraceError('INTERNAL', `tensor ${name} has ${rows} rows, of which ${covered} are known.`);
    const made = pieces.flatMap((piece) => partsAt(piece).map(({ part }) => find(source, part.tensor)));
    return { name, shape: part.shape, rows, columns, isVector, made, read: (format) => readPieces(source, pieces, rows, columns, format) };
  });
}

function find(source: WeightSource, name: string): StoredTensor {
  const stored = source.find(name);
  if (stored === undefined) throw new MillraceError('WEIGHTS_TENSOR_MISSING', { message: `The checkpoint holds no tensor ${name}.` });
  return stored;
}

/** Rows that a part adds to its weight. */
function rowsOf({ shape, index, rows, transposed }: WeightPart): number {
  const own = index === undefined ? shape : shape.slice(1);
  if (transposed === true) return own[1];
  return rows === undefined ? own[0] : rows[1] - rows[0];
}

/** Parts of a weight that hold the rows of a piece, with the row that each starts at. */
function partsAt({ weight, from, to }: Piece): { part: WeightPart; first: number }[] {
  let first = 0;
  return weight.parts.flatMap((part) => {
    const start = first;
    first += rowsOf(part);
    return first <= from || start >= to ? [] : [{ part, first: start }];
  });
}

function readPieces(source: WeightSource, pieces: readonly Piece[], rows: number, columns: number, format: WeightFormat): Uint8Array {
  const out = new Uint8Array(storedBytes(format, rows * columns));
  for (const piece of pieces) {
    const parts = partsAt(piece);
    const count = parts.reduce((sum, { part }) => sum + rowsOf(part), 0);
    const isVector = piece.weight.shape.length === 1;
    const shape = isVector ? [count] : [count, columns];
    const bytes = readWeight(source, { name: piece.weight.name, shape, format, parts: parts.map(({ part }) => part) });
    const skipped = storedBytes(format, (piece.from - (parts[0]?.first ?? 0)) * columns);
    const wanted = bytes.subarray(skipped, skipped + storedBytes(format, (piece.to - piece.from) * columns));
    out.set(wanted, storedBytes(format, piece.at * columns));
  }
  return out;
}
