/**
 * Gemma 3, text: Gemma 2 without soft caps, with q/k norms, and five window layers to one full layer, each kind with its own rotary base.
 * Gemma Team 2025, arXiv:2503.19786. Of the multimodal checkpoints only the language model is run.
 */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { type RopeFeatures, readRope, readRopeObject } from './blocks/rope-frequencies.ts';
import { sandwichNames, withPrefix } from './blocks/tensor-names.ts';
import { ConfigReader, limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';
import { gemmaAttention, gemmaNorms, gemmaSoftCap, queryScalar } from './gemma2.ts';

const MAX_POSITIONS = 131_072;
const DEFAULT_PERIOD = 6;

export const gemma3: ModelFamily = {
  name: 'gemma3',
  architectures: ['Gemma3ForCausalLM', 'Gemma3ForConditionalGeneration'],
  summary: 'text part: as Gemma 2 without soft caps; q/k norms; five window layers to one full, each kind with its own rotary base',
  features(outer, hasTensor) {
    const text = outer.object('text_config');
    const config = text === undefined ? outer : withDefaults(text, outer);
    const { layer, ...features } = readCommon(flatRope(config), {
      family: 'gemma3',
      maxPositions: MAX_POSITIONS,
      ropeTheta: 1_000_000,
      tiedEmbeddings: true,
      activationField: 'hidden_activation',
      activation: 'gelu_pytorch_tanh',
      headDim: 256,
    });
    const maxPositions = config.integer('max_position_embeddings', { max: limits.positions, fallback: MAX_POSITIONS });
    const attention = { ...gemmaAttention(config, layer), softCap: gemmaSoftCap(config, 'attn_logit_softcapping', 0), qkNorm: 'heads' as const };
    const rope = readRopes(config, attention.headDim, maxPositions);
    const full: LayerFeatures = { ...layer, attention: { ...attention, rope: rope.full } };
    const sliding: LayerFeatures = { ...layer, attention: { ...attention, rope: rope.sliding } };
    const period = config.integer('sliding_window_pattern', { max: limits.layers, fallback: DEFAULT_PERIOD });
    const rules = { fallbackWindow: 4096, slides: (index: number) => (index + 1) % period !== 0 };
    const prefix = ['language_model.model.', 'model.language_model.', 'model.'].find((p) => hasTensor(`${p}embed_tokens.weight`)) ?? 'model.';
    return {
      ...features,
      maxPositions,
      ...gemmaNorms(config, features.hiddenSize),
      logitSoftCap: gemmaSoftCap(config, 'final_logit_softcapping', 0),
      layers: slidingLayers(config, features.layers.length, maxPositions, rules, full, sliding),
      names: { ...withPrefix(sandwichNames, prefix), output: prefix === 'language_model.model.' ? 'language_model.lm_head' : 'lm_head' },
    };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'gemma3',
    huggingFace: 'Gemma3ForCausalLM',
    interleavedRotary: false,
    normShift: -1,
    names: sandwichNames,
    extraConfig: (metadata) => ({
      sliding_window: metadata.number('attention.sliding_window'),
      sliding_window_pattern: metadata.number('attention.sliding_window_pattern'),
      rope_local_base_freq: metadata.number('rope.freq_base_swa'),
      attn_logit_softcapping: null,
      final_logit_softcapping: metadata.number('final_logit_softcapping') ?? null,
      // the file does not say it: the 27B model alone (62 layers) divides by hidden size / heads
      query_pre_attn_scalar: queryScalar(
        metadata.number('block_count') === 62,
        metadata.number('embedding_length'),
        metadata.number('attention.head_count'),
        metadata.number('attention.key_length'),
      ),
    }),
  },
};

/** Rotary rules of the two kinds of layers, in the newer spelling (`rope_parameters` by kind) or the older (local base and scaling of the full ones). */
function readRopes(config: ConfigReader, headDim: number, maxPositions: number): { full: RopeFeatures; sliding: RopeFeatures } {
  const context = { rotaryDim: headDim, maxPositions, defaultTheta: 1_000_000 };
  const byKind = config.object('rope_parameters');
  const full = byKind?.object('full_attention');
  const sliding = byKind?.object('sliding_attention');
  if (full !== undefined && sliding !== undefined) {
    return {
      full: readRopeObject(full, full.positive('rope_theta', 1_000_000), config, context),
      sliding: readRopeObject(sliding, sliding.positive('rope_theta', 10_000), config, context),
    };
  }
  const local = config.positive('rope_local_base_freq', 10_000);
  return { full: readRope(config, context), sliding: readRopeObject(undefined, local, config, context) };
}

/** The configuration without rope fields that the common reader does not know. */
function flatRope(config: ConfigReader): ConfigReader {
  const byKind = config.object('rope_parameters')?.object('full_attention') !== undefined;
  return byKind ? config.without('rope_parameters', 'rope_scaling') : config;
}

/** Sizes that the text part of a published multimodal configuration may leave out. */
const textDefaults = new ConfigReader({
  vocab_size: 262_208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
});

/** The text part of a multimodal configuration; what it leaves out stands outside or goes without saying. */
function withDefaults(text: ConfigReader, outer: ConfigReader): ConfigReader {
  const own = text.withFallback(outer, 'dtype', 'torch_dtype', 'tie_word_embeddings', 'quantization_config');
  return own.withFallback(
    textDefaults,
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
  );
}
