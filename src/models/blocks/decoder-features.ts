/** What a decoder-only transformer can have. A family turns its configuration into this; `decoder.ts` turns it into a plan. */
import type { RopeFeatures } from './rope-frequencies.ts';
import type { TensorNames } from './tensor-names.ts';

export type ActivationFunction = 'silu' | 'gelu-tanh' | 'gelu' | 'relu';

export interface AttentionFeatures {
  readonly numHeads: number;
  readonly numKvHeads: number;
  /** Elements of one head; not always hiddenSize / numHeads. */
  readonly headDim: number;
  /** Multiplies q . k. */
  readonly scale: number;
  /** 0: none. */
  readonly softCap: number;
  /** 0: all earlier keys; otherwise the last `window`, a layer of the sliding cache group. */
  readonly window: number;
  /** null: q and k are not rotated. */
  readonly rope: RopeFeatures | null;
  /** Which elements of a head make a rotary pair; see the op `rope`. */
  readonly ropeStyle: 'half' | 'interleaved';
  /** ALiBi slopes `[numHeads]`, or null. */
  readonly slopes: Float32Array | null;
  /** RMS norm of q and k before rotation: of each head by one weight, or of the whole row. */
  readonly qkNorm: 'none' | 'heads' | 'whole';
  /**
   * How the checkpoint stores the projections: a tensor each; one tensor of all q rows, then k, then v; or one tensor in which each KV head has its
   * query heads, its k and its v together.
   */
  readonly qkvLayout: 'separate' | 'fused' | 'grouped';
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
}

export interface MlpFeatures {
  readonly intermediateSize: number;
  readonly activation: ActivationFunction;
  /** Gate and up in a tensor each or in one, gate first; or no gate. */
  readonly gate: 'separate' | 'fused' | 'none';
  readonly bias: boolean;
}

export interface LayerFeatures {
  readonly attention: AttentionFeatures;
  readonly mlp: MlpFeatures;
}

export interface DecoderFeatures {
  /** Family name, for the plan and for people. */
  readonly family: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  /** Longest context that positions are trained or scaled for. */
  readonly maxPositions: number;
  readonly norm: 'rms' | 'layer';
  /** Of layer norms. */
  readonly normBias: boolean;
  readonly normEpsilon: number;
  /** 1 where the checkpoint stores `weight - 1`. */
  readonly normWeightOffset: number;
  /** `pre`: norms before attention and MLP. `post`: of their results, before they are added. `pre-post`: both. */
  readonly normPlacement: 'pre' | 'post' | 'pre-post';
  /** MLP and attention both read the layer's input, through one norm or each its own, and are added together. Norms stand before them. */
  readonly parallel: 'no' | 'one-norm' | 'two-norms';
  /** Multiplies what attention and MLP add to the residual stream. */
  readonly residualScale: number;
  readonly embeddingScale: number;
  /** Rows of the table of learned positions; 0: none. */
  readonly learnedPositions: number;
  /** A norm of the embeddings. */
  readonly embeddingNorm: boolean;
  readonly tiedEmbeddings: boolean;
  /** Multiplies logits. */
  readonly logitScale: number;
  /** 0: none. */
  readonly logitSoftCap: number;
  /** Layers that are alike share one object. */
  readonly layers: readonly LayerFeatures[];
  readonly names: TensorNames;
  /** The checkpoint stores the matrices of layers as `[inputs, outputs]`. */
  readonly transposed: boolean;
}

/** A run of layers `[from, to)`: the whole model, a pipeline stage or a draft (S1). */
export interface Stage {
  readonly from: number;
  readonly to: number;
}
