/**
 * Falcon 7B, 40B, 180B and Falcon-RW: layer norms, an MLP without gate beside attention, few KV heads; or, in Falcon-RW, one after the other with ALiBi.
 * Almazrouei et al. 2023, arXiv:2311.16867.
 */
import { alibiSlopes } from './blocks/alibi.ts';
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { AttentionFeatures, DecoderFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = {
  ...llamaNames,
  embedding: 'transformer.word_embeddings',
  finalNorm: 'transformer.ln_f',
  layers: 'transformer.h.',
  qkv: 'self_attention.query_key_value',
  attentionOutput: 'self_attention.dense',
  up: 'mlp.dense_h_to_4h',
  down: 'mlp.dense_4h_to_h',
};

export const falcon: ModelFamily = {
  name: 'falcon',
  architectures: ['FalconForCausalLM', 'RWForCausalLM'],
  summary: 'as GPT-NeoX with few KV heads and one norm or two; Falcon-RW: one after the other, ALiBi',
  published: { vocabularies: ['falcon'] },
  features(given) {
    const grouped = given.boolean('new_decoder_architecture', false);
    const config = withLlamaFields(given, grouped);
    const { layer, ...features } = readCommon(config, {
      family: 'falcon',
      maxPositions: 2048,
      ropeTheta: 10_000,
      tiedEmbeddings: true,
      activationField: 'activation',
      ungated: true,
      activation: 'gelu',
      epsilonField: 'layer_norm_epsilon',
      normEpsilon: 1e-5,
    });
    const bias = config.boolean('bias', false);
    const attention: AttentionFeatures = {
      ...layer.attention,
      qkvLayout: config.boolean('qkv_in_turn', false) ? 'fused' : 'grouped',
      qkvBias: bias,
      outputBias: bias,
    };
    const { numHeads, scale } = attention;
    // a slope joins the score before it is scaled
    const placed = config.boolean('alibi', false) ? { ...attention, rope: null, slopes: alibiSlopes(numHeads, scale) } : attention;
    const own = { attention: placed, mlp: { ...layer.mlp, gate: 'none' as const, bias } };
    return { ...features, norm: 'layer', normBias: true, ...placement(config, grouped), layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'falcon',
    huggingFace: 'FalconForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    names,
    // with two norms, the usual word is the MLP's: `placement` exchanges the names
    layerTensors: { attn_norm_2: 'mlpNorm' },
    extraConfig: (metadata) => ({
      qkv_in_turn: true,
      new_decoder_architecture: true,
      num_kv_heads: metadata.number('attention.head_count_kv') ?? 1,
      layer_norm_epsilon: metadata.number('attention.layer_norm_epsilon'),
    }),
    tensorConfig: (has) => ({
      num_ln_in_parallel_attn: has('blk.0.attn_norm_2.weight') ? 2 : 1,
      // Falcon-RW, whose converted files lack its ALiBi and which llama.cpp cannot run either
      parallel_attn: !has('blk.0.ffn_norm.weight'),
      bias: has('blk.0.attn_qkv.bias'),
    }),
  },
};

function withLlamaFields(given: ConfigReader, grouped: boolean): ConfigReader {
  const config = given.withNames({
    num_hidden_layers: 'n_layer',
    num_attention_heads: 'n_head',
    num_kv_heads: 'n_head_kv',
    intermediate_size: 'ffn_hidden_size',
  });
  const hiddenSize = config.integer('hidden_size', { max: limits.hiddenSize });
  const numHeads = config.integer('num_attention_heads', { max: limits.heads });
  const stated = config.integer('num_kv_heads', { max: limits.heads, fallback: numHeads });
  const numKvHeads = grouped ? stated : config.boolean('multi_query', true) ? 1 : numHeads;
  return config.without('num_key_value_heads').withValues({ num_key_value_heads: numKvHeads, intermediate_size: 4 * hiddenSize });
}

/** How norms stand: of attention and MLP apart, one for both, or before each in turn. */
function placement(config: ConfigReader, grouped: boolean): Pick<DecoderFeatures, 'parallel' | 'names'> {
  if (!grouped && !config.boolean('parallel_attn', true)) return { parallel: 'no', names };
  if (config.boolean('qkv_in_turn', false) && !config.boolean('parallel_attn', true))
    throw config.invalid('parallel_attn', 'true: GGUF files of Falcon-RW do not say what its attention needs');
  const numNorms = config.integer('num_ln_in_parallel_attn', { max: 2, fallback: grouped ? 2 : 1 });
  if (config.boolean('qkv_in_turn', false) && numNorms === 2) {
    return { parallel: 'two-norms', names: { ...names, inputNorm: names.mlpNorm, mlpNorm: names.inputNorm } };
  }
  if (!grouped || numNorms === 1) return { parallel: 'one-norm', names };
  return { parallel: 'two-norms', names: { ...names, inputNorm: 'ln_attn', mlpNorm: 'ln_mlp' } };
}
