/** GPT-2: learned positions, layer norms, matrices stored as `[inputs, outputs]`. Radford et al. 2019. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames, withPrefix } from './blocks/tensor-names.ts';
import { limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = {
  ...llamaNames,
  embedding: 'model.wte',
  positionEmbedding: 'model.wpe',
  finalNorm: 'model.ln_f',
  layers: 'model.h.',
  inputNorm: 'ln_1',
  qkv: 'attn.c_attn',
  attentionOutput: 'attn.c_proj',
  mlpNorm: 'ln_2',
  up: 'mlp.c_fc',
  down: 'mlp.c_proj',
};
const withinTransformer = withPrefix(names, 'transformer.');

export const gpt2: ModelFamily = {
  name: 'gpt2',
  architectures: ['GPT2LMHeadModel'],
  summary: 'learned positions, layer norms, matrices stored as `[inputs, outputs]`',
  published: { vocabularies: ['gpt-2'] },
  features(given, hasTensor) {
    const renamed = given.withNames({
      hidden_size: 'n_embd',
      num_hidden_layers: 'n_layer',
      num_attention_heads: 'n_head',
      intermediate_size: 'n_inner',
      max_position_embeddings: 'n_positions',
    });
    const config = renamed.withValues({ intermediate_size: 4 * renamed.integer('hidden_size', { max: limits.hiddenSize }) });
    const { layer, ...features } = readCommon(config, {
      family: 'gpt2',
      maxPositions: 1024,
      ropeTheta: 10_000,
      tiedEmbeddings: true,
      activationField: 'activation_function',
      ungated: true,
      activation: 'gelu_new',
      epsilonField: 'layer_norm_epsilon',
      normEpsilon: 1e-5,
    });
    const scale = config.boolean('scale_attn_weights', true) ? layer.attention.scale : 1;
    const scaledByLayer = config.boolean('scale_attn_by_inverse_layer_idx', false);
    const own: LayerFeatures = {
      attention: { ...layer.attention, scale, rope: null, qkvLayout: 'fused', qkvBias: true, outputBias: true },
      mlp: { ...layer.mlp, gate: 'none', bias: true },
    };
    const scaled = (index: number): LayerFeatures => ({ ...own, attention: { ...own.attention, scale: scale / (index + 1) } });
    return {
      ...features,
      norm: 'layer',
      normBias: true,
      learnedPositions: features.maxPositions,
      // published checkpoints were saved from inside the model
      names: hasTensor('wte.weight') ? withPrefix(names, '') : withinTransformer,
      transposed: config.boolean('transposed_matrices', true),
      layers: features.layers.map((_, index) => (scaledByLayer ? scaled(index) : own)),
    };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'gpt2',
    huggingFace: 'GPT2LMHeadModel',
    interleavedRotary: false,
    normShift: 0,
    names: withinTransformer,
    // the files hold matrices as all others do
    extraConfig: (metadata) => ({ transposed_matrices: false, layer_norm_epsilon: metadata.number('attention.layer_norm_epsilon') }),
  },
};
