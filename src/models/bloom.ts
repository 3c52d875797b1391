/** BLOOM: ALiBi in place of positions, a norm of the embeddings, layer norms. BigScience 2022, arXiv:2211.05100. */
import { alibiSlopes } from './blocks/alibi.ts';
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames, withPrefix } from './blocks/tensor-names.ts';
import { limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = {
  ...llamaNames,
  embedding: 'model.word_embeddings',
  embeddingNorm: 'model.word_embeddings_layernorm',
  finalNorm: 'model.ln_f',
  layers: 'model.h.',
  qkv: 'self_attention.query_key_value',
  attentionOutput: 'self_attention.dense',
  up: 'mlp.dense_h_to_4h',
  down: 'mlp.dense_4h_to_h',
};

const withinTransformer = withPrefix(names, 'transformer.');

export const bloom: ModelFamily = {
  name: 'bloom',
  architectures: ['BloomForCausalLM'],
  summary: 'ALiBi, a norm of the embeddings, layer norms',
  features(given, hasTensor) {
    const renamed = given.withNames({
      hidden_size: 'n_embed',
      num_hidden_layers: 'n_layer',
      num_attention_heads: 'n_head',
      max_position_embeddings: 'seq_length',
    });
    const config = renamed.withValues({ intermediate_size: 4 * renamed.integer('hidden_size', { max: limits.hiddenSize }) });
    if (config.boolean('apply_residual_connection_post_layernorm', false)) {
      throw config.invalid('apply_residual_connection_post_layernorm', 'false: residuals around the norms');
    }
    const { layer, ...features } = readCommon(config, {
      family: 'bloom',
      maxPositions: 2048,
      ropeTheta: 10_000,
      tiedEmbeddings: true,
      ungated: true,
      activation: 'gelu_new',
      epsilonField: 'layer_norm_epsilon',
      normEpsilon: 1e-5,
    });
    const slopes = alibiSlopes(layer.attention.numHeads);
    const own: LayerFeatures = {
      attention: {
        ...layer.attention,
        rope: null,
        slopes,
        qkvLayout: config.boolean('qkv_in_turn', false) ? 'fused' : 'grouped',
        qkvBias: true,
        outputBias: true,
      },
      mlp: { ...layer.mlp, gate: 'none', bias: true },
    };
    return {
      ...features,
      norm: 'layer',
      normBias: true,
      embeddingNorm: true,
      // published checkpoints were saved from inside the model
      names: hasTensor('word_embeddings.weight') ? withPrefix(names, '') : withinTransformer,
      layers: features.layers.map(() => own),
    };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'bloom',
    huggingFace: 'BloomForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    names: withinTransformer,
    // the files hold all q, then k, then v
    extraConfig: (metadata) => ({ qkv_in_turn: true, layer_norm_epsilon: metadata.number('attention.layer_norm_epsilon') }),
  },
};
