/**
 * ChatGLM2, ChatGLM3 and GLM-4 as their authors store them: rotary pairs side by side on half of each head, q, k and v in one tensor, gate and up in
 * another. GLM Team 2024, arXiv:2406.12793.
 */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = {
  ...llamaNames,
  embedding: 'transformer.embedding.word_embeddings',
  finalNorm: 'transformer.encoder.final_layernorm',
  output: 'transformer.output_layer',
  layers: 'transformer.encoder.layers.',
  qkv: 'self_attention.query_key_value',
  attentionOutput: 'self_attention.dense',
  gateUp: 'mlp.dense_h_to_4h',
  down: 'mlp.dense_4h_to_h',
};

export const chatglm: ModelFamily = {
  name: 'chatglm',
  architectures: ['ChatGLMModel', 'ChatGLMForConditionalGeneration'],
  summary: 'ChatGLM 2 and 3, GLM-4 as first published: as glm4 with q, k, v in one tensor, under the names of its authors',
  features(given) {
    const config = withLlamaFields(given);
    for (const field of ['rmsnorm', 'post_layer_norm'])
      if (!config.boolean(field, true)) throw config.invalid(field, 'true, as in every published model');
    for (const field of ['add_bias_linear', 'apply_residual_connection_post_layernorm']) {
      if (config.boolean(field, false)) throw config.invalid(field, 'false, as in every published model');
    }
    const { layer, ...features } = readCommon(config, {
      family: 'chatglm',
      maxPositions: 2048,
      ropeTheta: 10_000 * config.positive('rope_ratio', 1),
      tiedEmbeddings: false,
      epsilonField: 'layernorm_epsilon',
      normEpsilon: 1e-5,
      partialRotary: 0.5,
    });
    const own: LayerFeatures = {
      attention: { ...layer.attention, ropeStyle: 'interleaved', qkvLayout: 'fused', qkvBias: config.boolean('add_qkv_bias', false) },
      mlp: { ...layer.mlp, gate: 'fused' },
    };
    return { ...features, names, layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'chatglm',
    huggingFace: 'ChatGLMModel',
    interleavedRotary: false,
    normShift: 0,
    names,
    layerTensors: { ffn_up: 'gateUp' },
    extraConfig: (metadata) => ({ layernorm_epsilon: metadata.number('attention.layer_norm_rms_epsilon') }),
    tensorConfig: (has) => ({ add_qkv_bias: has('blk.0.attn_qkv.bias') }),
  },
};

function withLlamaFields(given: ConfigReader): ConfigReader {
  const config = given.withNames({
    num_hidden_layers: 'num_layers',
    intermediate_size: 'ffn_hidden_size',
    head_dim: 'kv_channels',
    vocab_size: 'padded_vocab_size',
    max_position_embeddings: 'seq_length',
  });
  if (!config.boolean('multi_query_attention', false)) return config;
  const groups = config.integer('multi_query_group_num', { max: limits.heads, fallback: 1 });
  return config.withValues({ num_key_value_heads: groups });
}
