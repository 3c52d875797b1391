/** What a decoder-only transformer can have. A family turns its configuration into this; `decoder.ts` turns it into a plan. */
import type { RopeFeatures } from './rope-frequencies.ts';

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
  readonly rope: RopeFeatures;
  /** RMS norm of each head of q and k, before rotation. */
  readonly qkNorm: boolean;
  readonly qkvBias: boolean;
  readonly outputBias: boolean;
}

export interface MlpFeatures {
  readonly intermediateSize: number;
  readonly activation: 'silu' | 'gelu-tanh' | 'gelu';
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
  readonly normEpsilon: number;
  /** 1 where the checkpoint stores `weight - 1`. */
  readonly normWeightOffset: number;
  /** `pre`: norms before attention and MLP. `pre-post`: also of their results, before they are added. */
  readonly normPlacement: 'pre' | 'pre-post';
  readonly embeddingScale: number;
  readonly tiedEmbeddings: boolean;
  /** 0: none. */
  readonly logitSoftCap: number;
  /** Layers that are alike share one object. */
  readonly layers: readonly LayerFeatures[];
  /** What stands before `embed_tokens`, `layers` and `norm` in tensor names, such as `model.`. */
  readonly tensorPrefix: string;
  /** Output matrix, unless tied. */
  readonly outputTensor: string;
}

/** A run of layers `[from, to)`: the whole model, a pipeline stage or a draft (S1). */
export interface Stage {
  readonly from: number;
  readonly to: number;
}
