/** What a reference kernel is given. Storage is f32; arithmetic is f64 with one rounding at the end, unless the op says otherwise. */
import type { OpAttrs, OpName } from '../../plan/ops/index.ts';
import type { ForwardBatch } from '../backend.ts';
import type { ReferenceCache } from './cache.ts';

/** Rows in an arena: row r is `data[offset + r * stride .. + width)`. Views of wider values have a stride above their width. */
export interface Matrix {
  readonly data: Float32Array;
  /** The same memory as integers: ids. */
  readonly ints: Int32Array;
  readonly offset: number;
  readonly stride: number;
  readonly width: number;
}

export interface KernelCall<Name extends OpName> {
  readonly inputs: readonly Matrix[];
  readonly outputs: readonly Matrix[];
  /** Weights expanded to f32, row-major; null where an optional one is absent. */
  readonly weights: readonly (Float32Array | null)[];
  readonly constants: readonly Float32Array[];
  readonly attrs: OpAttrs[Name];
}

/** What holds for all nodes of one step entry. */
export interface StepContext {
  readonly batch: ForwardBatch;
  readonly cache: ReferenceCache | null;
}

/** Computes `numRows` rows: those of the axis of the node's first output, or of its first input where it has none. */
export type ReferenceKernel<Name extends OpName> = (call: KernelCall<Name>, numRows: number, step: StepContext) => void;
