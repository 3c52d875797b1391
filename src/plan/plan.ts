/**
 * The plan: the only description of a model (ideas 3 and S1, S3, S5 of ARCHITECTURE.md).
 *
 * A plan is a flat list of nodes in execution order over values. A value is a matrix `[rows of its axis, width]`; how many rows an axis
 * has is known only per step. Weights and constants are named, not held: a backend binds them at compile time.
 */
import type { Dtype } from '../base/dtype.ts';
import type { OpAttrs, OpName } from './ops/index.ts';

/** Number of rows of a value in a step: one per scheduled token, or one per token whose logits are wanted. */
export type RowAxis = 'tokens' | 'logits';

export type ValueId = number;
export type WeightId = number;

export interface Value {
  readonly id: ValueId;
  /** For people and error messages, such as `layers.3.attention.q`. */
  readonly name: string;
  readonly axis: RowAxis;
  /** Elements per row. */
  readonly width: number;
  /** Activations are `f32`; ids are `i32`. Rounding for a kernel is part of the op that asks for it. */
  readonly dtype: Extract<Dtype, 'f32' | 'i32'>;
  /** A view is columns `[offset, offset + width)` of `of`, which is never itself a view; it owns no memory. */
  readonly view?: { readonly of: ValueId; readonly offset: number };
}

/** Storage formats of a weight matrix as a backend holds it. `quant/formats` describes each. */
export type WeightFormat =
  | 'f32'
  | 'f16'
  | 'bf16'
  | 'q8_0'
  | 'q4_0'
  | 'q4_1'
  | 'q5_0'
  | 'q5_1'
  | 'q2_k'
  | 'q3_k'
  | 'q4_k'
  | 'q5_k'
  | 'q6_k'
  | 'iq4_nl'
  | 'iq4_xs'
  | 'mxfp4'
  | 'iq2_xxs'
  | 'iq2_xs'
  | 'iq2_s'
  | 'iq3_xxs'
  | 'iq3_s'
  | 'iq1_s'
  | 'iq1_m'
  | 'tq1_0'
  | 'tq2_0'
  | 'int2_g32'
  | 'int2_g64'
  | 'int2_g128'
  | 'int3_g32'
  | 'int3_g64'
  | 'int3_g128'
  | 'int4_g32'
  | 'int4_g64'
  | 'int4_g128'
  | 'int8_g32'
  | 'int8_g128'
  | 'fp8_g32'
  | 'fp8_g128'
  | 'fp8_e5m2_g32'
  | 'fp8_e5m2_g128'
  | 'nf4'
  | 'int8_channel';

/**
 * Numbers that a `linear` multiplies with, on its activation side (part of the op's meaning; the reference does the same):
 * `f32` leaves them; `bf16` rounds each; `int8-group32` quantises each run of 32 to int8 with its own f32 scale;
 * `int8-token` quantises a whole row with one scale.
 */
export type Activation = 'f32' | 'bf16' | 'int8-group32' | 'int8-token';

/** A weight: the row-wise concatenation of named checkpoint tensors (`[q; k; v]`, `[gate; up]`), all of one format. */
export interface Weight {
  readonly id: WeightId;
  readonly name: string;
  /**
   * `[rows]` for vectors (norms, biases, kept as f32), `[rows, columns]` for matrices (`[outputs, inputs]`), `[experts, rows, columns]` for the matrices of
   * experts, each of whole parts.
   */
  readonly shape: readonly number[];
  readonly format: WeightFormat;
  readonly parts: readonly WeightPart[];
}

export interface WeightPart {
  /** Name in the checkpoint, Hugging Face spelling. */
  readonly tensor: string;
  /** Shape of the tensor in the checkpoint. */
  readonly shape: readonly number[];
  /** Entry of the first dimension: this expert's matrix of `[experts, rows, columns]`, or its vector. What follows speaks of the entry. */
  readonly index?: number;
  /** Rows `[from, to)` of the tensor only: q, k and v of a fused one. All by default. Taken before the tensor is turned. */
  readonly rows?: readonly [from: number, to: number];
  /** The checkpoint stores `[inputs, outputs]`. */
  readonly transposed?: boolean;
  /** The checkpoint stores the rows of the first half and of the second in turn. Never together with `rows`. */
  readonly interleaved?: boolean;
}

/** A table computed while the plan was built (rotary frequencies), f32. */
export interface Constant {
  readonly id: number;
  readonly name: string;
  readonly data: Float32Array;
}

/** Layers that share one way of keeping K and V (S3). Each group has its own block tables and slots. */
export interface CacheGroup {
  readonly name: string;
  /**
   * `full` keeps every token; `window` keeps the last `window` tokens and frees what has slid out. `latent` keeps every token, as one row of `headDim`
   * elements that all heads share in place of K and V (multi-head latent attention); `numKvHeads` is 1. `state` keeps no token: one recurrent state a
   * sequence, of `numKvHeads * headDim` f32 elements a layer (short convolutions, linear attention, state spaces), which each token replaces.
   */
  readonly kind: 'full' | 'window' | 'latent' | 'state';
  readonly window?: number;
  readonly numLayers: number;
  readonly numKvHeads: number;
  /** Elements of one head of K and of V; of the row of a `latent` group; of one head of a `state`. */
  readonly headDim: number;
}

export interface PlanNode<Name extends OpName = OpName> {
  readonly op: Name;
  /** For people and error messages, such as `layers.3.mlp.down`. */
  readonly name: string;
  readonly inputs: readonly ValueId[];
  readonly outputs: readonly ValueId[];
  /** Weights in the order that the op declares; `null` where an optional one is absent. */
  readonly weights: readonly (WeightId | null)[];
  readonly constants: readonly number[];
  readonly attrs: OpAttrs[Name];
}

/** Any node, its attributes typed by its op. */
export type AnyNode = { [Name in OpName]: PlanNode<Name> }[OpName];

export interface Plan {
  readonly name: string;
  readonly values: readonly Value[];
  readonly weights: readonly Weight[];
  readonly constants: readonly Constant[];
  readonly nodes: readonly AnyNode[];
  /** What a step brings in: token ids, or embeddings `[tokens, width]` made by another program (S1). */
  readonly input: { readonly kind: 'tokenIds' | 'embeddings'; readonly value: ValueId };
  /** Named results: `logits [logits, vocabSize]`, `hidden [tokens, hiddenSize]`, ... */
  readonly outputs: Readonly<Record<string, ValueId>>;
  readonly cacheGroups: readonly CacheGroup[];
  /** 1 for text; 3 for M-RoPE (S4). */
  readonly numPositionAxes: number;
  /** Ranks that run this plan together; collectives are identities at 1 (S5). */
  readonly worldSize: number;
}
