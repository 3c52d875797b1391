/** GPT-NeoX and Pythia: layer norms, attention and MLP side by side, rotation of a part of each head. Black et al. 2022, arXiv:2204.06745. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = {
  ...llamaNames,
  embedding: 'gpt_neox.embed_in',
  finalNorm: 'gpt_neox.final_layer_norm',
  output: 'embed_out',
  layers: 'gpt_neox.layers.',
  qkv: 'attention.query_key_value',
  attentionOutput: 'attention.dense',
  up: 'mlp.dense_h_to_4h',
  down: 'mlp.dense_4h_to_h',
};

export const gptNeox: ModelFamily = {
  name: 'gpt-neox',
  architectures: ['GPTNeoXForCausalLM'],
  summary:
    'Pythia, GPT-NeoX: layer norms with biases, attention and MLP side by side, rotation of a part of each head, an MLP without gate, q, k and v of each head together',
  features(given, hasTensor) {
    const config = given.withNames({ rope_theta: 'rotary_emb_base', partial_rotary_factor: 'rotary_pct' });
    const { layer, ...features } = readCommon(config, {
      family: 'gpt-neox',
      maxPositions: 2048,
      ropeTheta: 10_000,
      tiedEmbeddings: false,
      ungated: true,
      activation: 'gelu',
      epsilonField: 'layer_norm_eps',
      normEpsilon: 1e-5,
      partialRotary: 0.25,
    });
    const bias = config.boolean('attention_bias', true);
    const own: LayerFeatures = {
      attention: { ...layer.attention, qkvLayout: config.boolean('qkv_in_turn', false) ? 'fused' : 'grouped', qkvBias: bias, outputBias: bias },
      mlp: { ...layer.mlp, gate: 'none', bias: true },
    };
    return {
      ...features,
      norm: 'layer',
      normBias: true,
      parallel: config.boolean('use_parallel_residual', true) ? 'two-norms' : 'no',
      names: hasTensor('lm_head.weight') ? { ...names, output: 'lm_head' } : names,
      layers: features.layers.map(() => own),
    };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'gptneox',
    huggingFace: 'GPTNeoXForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    names,
    // the files hold all q, then k, then v
    extraConfig: (metadata) => ({
      qkv_in_turn: true,
      layer_norm_eps: metadata.number('attention.layer_norm_epsilon'),
      use_parallel_residual: metadata.boolean('use_parallel_residual'),
    }),
    tensorConfig: (has) => ({ attention_bias: has('blk.0.attn_qkv.bias') }),
  },
};
