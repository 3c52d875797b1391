/**
 * From GGUF to Hugging Face: metadata keys to configuration fields, tensor names to tensor names. Works on plain values; files are read elsewhere.
 * Names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and the converters of llama.cpp.
 */
import { MillraceError } from '../base/errors.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';

/** What differs between families. */
export interface GgufFamily {
  /** `general.architecture`, also the prefix of the metadata keys. */
  readonly architecture: string;
  /** Entry of `architectures` that stands for it. */
  readonly huggingFace: string;
  /** q and k rows are stored with rotary pairs interleaved. */
  readonly interleavedRotary: boolean;
  /** Files of this architecture that have experts; those without are another family's. No by default. */
  readonly experts?: boolean;
  /** Heads are those of latent attention, whose widths the family reads itself. No by default. */
  readonly latentHeads?: boolean;
  /** Added to every norm weight when read; -1 where the file stores `weight + 1`. */
  readonly normShift: number;
  /** What the family calls its tensors; as Llama by default. */
  readonly names?: TensorNames;
  /** Tensors of a layer, by their word in the file, that mean something else than usual. */
  readonly layerTensors?: Readonly<Record<string, keyof TensorNames>>;
  /** What files leave out of the rules of YaRN. */
  readonly yarn?: Readonly<Record<string, unknown>>;
  /** Fields beyond the common ones. */
  extraConfig?(metadata: GgufMetadata): Record<string, unknown>;
  /** Fields that follow from which tensors there are, by their names in the file. */
  tensorConfig?(hasTensor: (name: string) => boolean): Record<string, unknown>;
}

/** Checked access to the metadata of one architecture. */
export interface GgufMetadata {
  /** Number at `<architecture>.<key>`, or undefined. @throws MODEL_CONFIG_INVALID when it is not a number */
  number(key: string): number | undefined;
  /** As `number`. */
  boolean(key: string): boolean | undefined;
}

/** What is needed of a file; `GgufFile` of the weights room fits. */
export interface GgufContents {
  readonly metadata: ReadonlyMap<string, unknown>;
  /** Slowest dimension first, by the file's own names. */
  tensorShape(name: string): readonly number[] | undefined;
  readVector(name: string): Float32Array | undefined;
}

export interface GgufTranslation {
  /** As `config.json` would say it. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Name and reading rules of a tensor, or null for one that the model does not use. */
  translate(name: string): { name: string; rowOrder?: { kind: 'rope-interleaved'; headDim: number }; shift?: number; isMatrix?: true } | null;
}

/** Translates one file by the rules of its family. @throws MODEL_CONFIG_INVALID */
export function translateGguf(contents: GgufContents, family: GgufFamily): GgufTranslation {
  const config = readConfig(contents, family);
  return { config, translate: (name) => translateTensor(name, family, config.head_dim as number) };
}

function readConfig(contents: GgufContents, family: GgufFamily): Record<string, unknown> {
  const metadata = metadataOf(contents.metadata, family.architecture);
  const embedding = contents.tensorShape('token_embd.weight');
  const hiddenSize = metadata.number('embedding_length');
  const numHeads = metadata.number('attention.head_count');
  const headDim = metadata.number('attention.key_length') ?? (hiddenSize !== undefined && numHeads ? hiddenSize / numHeads : undefined);
  const valueDim = metadata.number('attention.value_length');
  if (valueDim !== undefined && valueDim !== headDim && family.latentHeads !== true) {
    throw new MillraceError('MODEL_CONFIG_INVALID', {
      message: 'Heads of keys and of values have different widths, which this family does not have.',
      expected: `attention.value_length ${headDim}`,
      received: String(valueDim),
    });
  }
  const rotaryDim = metadata.number('rope.dimension_count');
  return {
    architectures: [family.huggingFace],
    vocab_size: embedding?.[0] ?? metadata.number('vocab_size'),
    hidden_size: hiddenSize,
    num_hidden_layers: metadata.number('block_count'),
    num_attention_heads: numHeads,
    num_key_value_heads: metadata.number('attention.head_count_kv'),
    head_dim: headDim,
    intermediate_size: metadata.number('feed_forward_length') ?? metadata.number('expert_feed_forward_length'),
    max_position_embeddings: metadata.number('context_length'),
    rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon') ?? metadata.number('attention.layer_norm_epsilon'),
    rope_theta: metadata.number('rope.freq_base'),
    rope_scaling: readRopeScaling(contents, metadata, family),
    ...(rotaryDim !== undefined && headDim !== undefined ? { partial_rotary_factor: rotaryDim / headDim } : {}),
    tie_word_embeddings: contents.tensorShape('output.weight') === undefined,
    attention_bias: contents.tensorShape('blk.0.attn_q.bias') !== undefined,
    mlp_bias: contents.tensorShape('blk.0.ffn_up.bias') !== undefined,
    ...(family.experts === true ? expertConfig(metadata) : {}),
    ...family.extraConfig?.(metadata),
    ...family.tensorConfig?.((name) => contents.tensorShape(name) !== undefined),
  };
}

/** Fields of mixtures of experts, under the names of all families that have them. */
function expertConfig(metadata: GgufMetadata): Record<string, unknown> {
  const numExperts = metadata.number('expert_count');
  return {
    num_experts: numExperts,
    num_local_experts: numExperts,
    n_routed_experts: numExperts,
    num_experts_per_tok: metadata.number('expert_used_count'),
    moe_intermediate_size: metadata.number('expert_feed_forward_length'),
    n_shared_experts: metadata.number('expert_shared_count'),
    shared_expert_intermediate_size: metadata.number('expert_shared_feed_forward_length'),
    norm_topk_prob: metadata.boolean('expert_weights_norm'),
    routed_scaling_factor: metadata.number('expert_weights_scale'),
    n_group: metadata.number('expert_group_count'),
    topk_group: metadata.number('expert_group_used_count'),
    first_k_dense_replace: metadata.number('leading_dense_block_count'),
  };
}

function readRopeScaling(contents: GgufContents, metadata: GgufMetadata, family: GgufFamily): Record<string, unknown> | null {
  // Llama 3.1 and later: the file holds each frequency's divisor instead of the rule
  if (contents.tensorShape('rope_freqs.weight') !== undefined) {
    return { rope_type: 'divisors', divisors: [...(contents.readVector('rope_freqs.weight') ?? [])] };
  }
  // Phi-3 and Phi-4: the two lists of LongRoPE as tensors
  if (contents.tensorShape('rope_factors_long.weight') !== undefined) {
    return {
      rope_type: 'longrope',
      short_factor: [...(contents.readVector('rope_factors_short.weight') ?? [])],
      long_factor: [...(contents.readVector('rope_factors_long.weight') ?? [])],
      original_max_position_embeddings: metadata.number('rope.scaling.original_context_length'),
      attention_factor: metadata.number('rope.scaling.attn_factor'),
    };
  }
  const kind = contents.metadata.get(`${String(contents.metadata.get('general.architecture'))}.rope.scaling.type`);
  if (kind === undefined || kind === 'none') return null;
  const original = metadata.number('rope.scaling.original_context_length');
  // latent attention: scores are multiplied instead of cos and sin, which two equal fields of config.json say
  const logMultiplier = metadata.number('rope.scaling.yarn_log_multiplier');
  const allDim = logMultiplier === undefined ? undefined : logMultiplier / 0.1;
  return {
    rope_type: kind,
    ...(allDim === undefined ? {} : { mscale: allDim, mscale_all_dim: allDim }),
    ...(kind === 'yarn' ? family.yarn : {}),
    factor: metadata.number('rope.scaling.factor'),
    ...(original === undefined ? {} : { original_max_position_embeddings: original }),
  };
}

/** Checked access to the metadata of an architecture. */
export function metadataOf(metadata: ReadonlyMap<string, unknown>, architecture: string): GgufMetadata {
  const read = (key: string, kind: 'number' | 'boolean') => {
    const value = metadata.get(`${architecture}.${key}`);
    if (value === undefined || typeof value === kind) return value;
    throw new MillraceError('MODEL_CONFIG_INVALID', {
      message: `GGUF metadata ${architecture}.${key} is wrong.`,
      expected: kind === 'number' ? 'a number' : 'true or false',
      received: typeof value === 'object' ? 'an array' : String(value).slice(0, 80),
    });
  };
  return { number: (key) => read(key, 'number') as number | undefined, boolean: (key) => read(key, 'boolean') as boolean | undefined };
}

const outerTensors: Readonly<Record<string, keyof TensorNames>> = {
  token_embd: 'embedding',
  position_embd: 'positionEmbedding',
  token_embd_norm: 'embeddingNorm',
  output_norm: 'finalNorm',
  output: 'output',
};

const layerTensors: Readonly<Record<string, keyof TensorNames>> = {
  attn_norm: 'inputNorm',
  attn_q: 'q',
  attn_k: 'k',
  attn_v: 'v',
  attn_qkv: 'qkv',
  attn_q_a: 'qA',
  attn_q_a_norm: 'qANorm',
  attn_q_b: 'qB',
  attn_kv_a_mqa: 'kvA',
  attn_kv_a_norm: 'kvANorm',
  attn_kv_b: 'kvB',
  attn_k_b: 'kB',
  attn_v_b: 'vB',
  attn_output: 'attentionOutput',
  attn_q_norm: 'qNorm',
  attn_k_norm: 'kNorm',
  post_attention_norm: 'postAttentionNorm',
  post_ffw_norm: 'postMlpNorm',
  ffn_norm: 'mlpNorm',
  ffn_gate: 'gate',
  ffn_up: 'up',
  ffn_down: 'down',
  ffn_gate_inp: 'router',
  ffn_gate_inp_shexp: 'sharedExpertGate',
};

/** Tensors whose name is put together of several, and those that have a whole one. */
const expertTensors: Readonly<Record<string, (names: TensorNames, kind: string) => string>> = {
  ffn_gate_exps: (names, kind) => `${names.experts}.${names.expertGate}.${kind}`,
  ffn_up_exps: (names, kind) => `${names.experts}.${names.expertUp}.${kind}`,
  ffn_down_exps: (names, kind) => `${names.experts}.${names.expertDown}.${kind}`,
  ffn_gate_shexp: (names, kind) => `${names.sharedExpert}.${names.expertGate}.${kind}`,
  ffn_up_shexp: (names, kind) => `${names.sharedExpert}.${names.expertUp}.${kind}`,
  ffn_down_shexp: (names, kind) => `${names.sharedExpert}.${names.expertDown}.${kind}`,
  exp_probs_b: (names) => names.routerCorrection,
  attn_sinks: (names) => names.sinks,
};

/** Every name that a tensor of the family may have in a file, the family's own words before those that all have. */
export function possibleFileNames({ layerTensors: own }: Pick<GgufFamily, 'layerTensors'>, numLayers: number): string[] {
  const words = [...Object.keys(own ?? {}), ...Object.keys(layerTensors), ...Object.keys(expertTensors)];
  const layers = Array.from({ length: numLayers }, (_, layer) => words.map((word) => `blk.${layer}.${word}`)).flat();
  return [...Object.keys(outerTensors), ...layers].flatMap((stem) => [`${stem}.weight`, `${stem}.bias`]);
}

const LAYER_TENSOR = /^blk\.(\d{1,4})\.([a-z_]+(?:_2)?)\.(weight|bias)$/;

/** As Mixtral's first files had them: a tensor for each expert. */
const SINGLE_EXPERT = /^blk\.(\d{1,4})\.ffn_(gate|up|down)\.(\d{1,4})\.weight$/;

const OUTER_TENSOR = /^([a-z_]+)\.(weight|bias)$/;

function translateTensor(name: string, family: GgufFamily, headDim: number): ReturnType<GgufTranslation['translate']> {
  const shifted = family.normShift !== 0 && name.includes('norm') ? { shift: family.normShift } : {};
  const names = family.names ?? llamaNames;
  const outer = OUTER_TENSOR.exec(name);
  if (outer !== null) {
    const [, word, kind] = outer;
    return Object.hasOwn(outerTensors, word) ? { name: `${names[outerTensors[word]]}.${kind}`, ...shifted } : null;
  }
  const single = SINGLE_EXPERT.exec(name);
  if (single !== null) {
    const [, layer, word, expert] = single;
    const part = word === 'gate' ? names.expertGate : word === 'up' ? names.expertUp : names.expertDown;
    return { name: `${names.layers}${layer}.${names.experts}.${expert}.${part}.weight` };
  }
  const match = LAYER_TENSOR.exec(name);
  if (match === null) return null;
  const [, layer, word, kind] = match;
  if (Object.hasOwn(expertTensors, word)) return { name: `${names.layers}${layer}.${expertTensors[word](names, kind)}` };
  const known = { ...layerTensors, ...family.layerTensors };
  if (!Object.hasOwn(known, word)) return null;
  const rotary = family.interleavedRotary && (word === 'attn_q' || word === 'attn_k');
  return {
    name: `${names.layers}${layer}.${names[known[word]]}.${kind}`,
    ...shifted,
    ...(word === 'ffn_gate_inp_shexp' ? { isMatrix: true as const } : {}),
    ...(rotary ? { rowOrder: { kind: 'rope-interleaved' as const, headDim } } : {}),
  };
}
