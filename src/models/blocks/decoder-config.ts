/** The fields that every decoder configuration has, read once for all families. */
import { type ConfigReader, limits } from '../config-reader.ts';
import type { ActivationFunction, AttentionFeatures, DecoderFeatures, LayerFeatures } from './decoder-features.ts';
import { type RopeFeatures, type RopeScaling, readRope } from './rope-frequencies.ts';
import { llamaNames } from './tensor-names.ts';

/** What a family does when `config.json` is silent: files leave out what equals the family's default. */
export interface DecoderDefaults {
  readonly family: string;
  readonly maxPositions: number;
  readonly ropeTheta: number;
  readonly tiedEmbeddings: boolean;
  /** Field of the activation and its default spelling. */
  readonly activationField?: string;
  readonly activation?: string;
  /** The MLP has no gate: it may also have relu. */
  readonly ungated?: boolean;
  /** 0: head width is hidden_size / num_attention_heads. */
  readonly headDim?: number;
  /** Field of the epsilon of norms and its default. */
  readonly epsilonField?: string;
  readonly normEpsilon?: number;
  /** Part of a head that is rotated, where the configuration does not say. */
  readonly partialRotary?: number;
}

const activations: Readonly<Record<string, ActivationFunction>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh',
  gelu_pytorch_tanh: 'gelu-tanh',
  relu: 'relu',
};

/** A plain Llama-like decoder, all layers alike and all attention full; families change what differs. */
export interface CommonFeatures extends DecoderFeatures {
  readonly layer: LayerFeatures;
}

/**
 * Reads what is common. @throws MODEL_CONFIG_INVALID naming the field; WEIGHTS_FORMAT_UNSUPPORTED for a checkpoint that says it is quantised
 */
export function readCommon(config: ConfigReader, defaults: DecoderDefaults): CommonFeatures {
  const hiddenSize = config.integer('hidden_size', { max: limits.hiddenSize });
  const numLayers = config.integer('num_hidden_layers', { max: limits.layers });
  const attention = readAttention(config, defaults, hiddenSize);
  const { rope } = attention;
  const layer: LayerFeatures = {
    attention,
    mlp: {
      intermediateSize: config.integer('intermediate_size', { max: limits.intermediateSize }),
      activation: readActivation(config, defaults),
      gate: 'separate',
      bias: false,
    },
  };
  const maxPositions = config.integer('max_position_embeddings', { max: limits.positions, fallback: defaults.maxPositions });
  return {
    family: defaults.family,
    vocabSize: config.integer('vocab_size', { max: limits.vocabSize }),
    hiddenSize,
    maxPositions: stretchedPositions(maxPositions, rope.scaling),
    norm: 'rms',
    normBias: false,
    normEpsilon: config.positive(defaults.epsilonField ?? 'rms_norm_eps', defaults.normEpsilon ?? 1e-6),
    normWeightOffset: 0,
    normPlacement: 'pre',
    parallel: 'no',
    residualScale: 1,
    embeddingScale: 1,
    learnedPositions: 0,
    embeddingNorm: false,
    tiedEmbeddings: config.boolean('tie_word_embeddings', defaults.tiedEmbeddings),
    logitScale: 1,
    logitSoftCap: 0,
    layer,
    layers: Array.from({ length: numLayers }, () => layer),
    names: llamaNames,
    transposed: false,
  };
}

/** Context after scaling: `linear` and `yarn` configurations give the trained length and the factor; `llama3` ones the stretched length. */
function stretchedPositions(maxPositions: number, scaling: RopeScaling): number {
  if (scaling.kind === 'linear') return Math.floor(maxPositions * scaling.factor);
  if (scaling.kind === 'yarn') return Math.max(maxPositions, Math.floor(scaling.originalPositions * scaling.factor));
  return maxPositions;
}

function readAttention(config: ConfigReader, defaults: DecoderDefaults, hiddenSize: number): AttentionFeatures & { readonly rope: RopeFeatures } {
  const numHeads = config.integer('num_attention_heads', { max: limits.heads });
  const numKvHeads = config.integer('num_key_value_heads', { max: limits.heads, fallback: numHeads });
  if (numHeads % numKvHeads !== 0) throw config.invalid('num_key_value_heads', `a divisor of num_attention_heads (${numHeads})`);
  const written = config.get('head_dim') !== undefined || defaults.headDim !== undefined;
  if (!written && hiddenSize % numHeads !== 0) throw config.invalid('hidden_size', `a multiple of num_attention_heads (${numHeads})`);
  const headDim = config.integer('head_dim', { max: limits.headDim, fallback: defaults.headDim ?? hiddenSize / numHeads });
  if (headDim % 2 !== 0) throw config.invalid('head_dim', 'an even number');
  const maxPositions = config.integer('max_position_embeddings', { max: limits.positions, fallback: defaults.maxPositions });
  return {
    numHeads,
    numKvHeads,
    headDim,
    scale: 1 / Math.sqrt(headDim),
    softCap: 0,
    window: 0,
    rope: readRope(config, { rotaryDim: headDim, maxPositions, defaultTheta: defaults.ropeTheta, defaultPartial: defaults.partialRotary ?? 1 }),
    ropeStyle: 'half',
    slopes: null,
    qkNorm: 'none',
    qkvLayout: 'separate',
    qkvBias: false,
    outputBias: false,
  };
}

/** An activation by its word in the configuration, in models without a gate. @throws MODEL_CONFIG_INVALID */
export function readActivationWord(config: ConfigReader, field: string, fallback: string): ActivationFunction {
  return activations[config.word(field, Object.keys(activations), fallback)];
}

function readActivation(config: ConfigReader, defaults: DecoderDefaults): ActivationFunction {
  const field = defaults.activationField ?? 'hidden_act';
  const words = Object.keys(activations).filter((word) => defaults.ungated === true || activations[word] !== 'relu');
  const word = config.word(field, words, defaults.activation ?? 'silu');
  return activations[word];
}

/**
 * Layers that attend through a window, as `layer_types` says or, where it is absent, the family's rule. All full where there is no window, or one
 * as long as the context.
 */
export interface SlidingRules {
  /** Window when the field is absent; 0: none. */
  readonly fallbackWindow: number;
  readonly slides: (index: number) => boolean;
}

/** Gives each layer its features: `full` as it is, or `sliding` with the window. @throws MODEL_CONFIG_INVALID */
export function slidingLayers(
  config: ConfigReader,
  numLayers: number,
  maxPositions: number,
  rules: SlidingRules,
  full: LayerFeatures,
  sliding: LayerFeatures = full,
): LayerFeatures[] {
  const types = config.get('layer_types');
  const known =
    types === undefined ||
    (Array.isArray(types) && types.length === numLayers && types.every((t) => t === 'full_attention' || t === 'sliding_attention'));
  if (!known) throw config.invalid('layer_types', `a list of ${numLayers} words, each full_attention or sliding_attention`);
  const slides = Array.isArray(types) ? (index: number) => types[index] === 'sliding_attention' : rules.slides;
  const written = config.get('sliding_window') !== undefined;
  const fallback = config.has('sliding_window') ? 0 : rules.fallbackWindow; // null says: none
  const stated = written ? config.integer('sliding_window', { max: limits.positions }) : fallback;
  const anySlides = Array.from({ length: numLayers }, (_, index) => index).some(slides);
  if (stated === 0 && Array.isArray(types) && anySlides) throw config.invalid('sliding_window', 'a window, since layer_types has sliding layers');
  const window = stated >= maxPositions ? 0 : stated;
  const windowed: LayerFeatures = { ...sliding, attention: { ...sliding.attention, window } };
  return Array.from({ length: numLayers }, (_, index) => (slides(index) ? windowed : full));
}
