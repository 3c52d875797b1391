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
  /** Then `numKvHeads` is 1 and `headDim` the width of a row of the cache, kvRank + rotaryDim. */
  readonly latent?: LatentFeatures;
  /** A learned logit a head joins the softmax without a value. No by default. */
  readonly sinks?: boolean;
}

/** Multi-head latent attention: queries and keys in a part without and a part with rotation, K and V out of one short vector. */
export interface LatentFeatures {
  /** Width that queries go through; 0: straight from the hidden state. */
  readonly qRank: number;
  readonly kvRank: number;
  /** Of a head's query and key. */
  readonly nopeDim: number;
  readonly rotaryDim: number;
  /** Of a head's value. */
  readonly valueDim: number;
  /** Of the norms of what is compressed. */
  readonly normEpsilon: number;
  /** Of the projections down. */
  readonly bias: boolean;
  /** The projection up to K and V in one tensor, each head's rows of K before those of V; or one of K, turned, and one of V, a matrix for each head. */
  readonly kvB: 'fused' | 'split';
}

export interface MlpFeatures {
  readonly intermediateSize: number;
  readonly activation: ActivationFunction;
  /** Gate and up in a tensor each or in one, gate first; or no gate. */
  readonly gate: 'separate' | 'fused' | 'none';
  readonly bias: boolean;
}

/** How a router chooses; see the op `moe-route`. */
export interface RouterFeatures {
  readonly score: 'softmax' | 'sigmoid';
  readonly normalise: 'none' | 'sum';
  /** 1: none. */
  readonly groups: number;
  readonly keptGroups: number;
  readonly groupScore: 'max' | 'top2';
  /** Multiplies the weights of the chosen. */
  readonly scale: number;
  /** Of the router's linear. */
  readonly bias: boolean;
  /** A bias of the choice alone. */
  readonly correction: boolean;
}

/** A mixture of experts: each token passes through a few of many gated MLPs, chosen by a router. */
export interface ExpertFeatures {
  readonly numExperts: number;
  readonly expertsPerToken: number;
  /** Of one expert. */
  readonly intermediateSize: number;
  readonly activation: Exclude<ActivationFunction, 'relu'>;
  /** Not 0: the clamped gate of gpt-oss in place of `activation`. */
  readonly swigluLimit: number;
  readonly bias: boolean;
  /** How the checkpoint holds the matrices: a tensor for each expert; gate, up and down of all experts in a tensor each; or gate and up of all in one. */
  readonly layout: 'each' | 'stacked' | 'fused';
  /** Of the fused layout: matrices are stored `[inputs, outputs]`. */
  readonly transposed: boolean;
  /** Of the fused layout: rows of gate and up come in turn. */
  readonly interleaved: boolean;
  readonly router: RouterFeatures;
  /** An MLP that every token passes, added to the chosen ones; `gated`: through the sigmoid of a linear of one output. */
  readonly shared: { readonly intermediateSize: number; readonly gated: boolean } | null;
}

export interface LayerFeatures {
  readonly attention: AttentionFeatures;
  readonly mlp: MlpFeatures;
  /** What stands in place of `mlp`, in layers that have it. */
  readonly experts?: ExpertFeatures;
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
