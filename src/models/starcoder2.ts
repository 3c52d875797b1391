/** StarCoder 2: layer norms, an MLP without gate, biases, a sliding window. Lozhkov et al. 2024, arXiv:2402.19173. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = { ...llamaNames, up: 'mlp.c_fc', down: 'mlp.c_proj' };

export const starcoder2: ModelFamily = {
  name: 'starcoder2',
  architectures: ['Starcoder2ForCausalLM'],
  summary: 'layer norms, biases, an MLP without gate, optional window',
  published: { vocabularies: ['starcoder'] },
  features(config) {
    const { layer, ...features } = readCommon(config, {
      family: 'starcoder2',
      maxPositions: 4096,
      ropeTheta: 10_000,
      tiedEmbeddings: true,
      ungated: true,
      activation: 'gelu_pytorch_tanh',
      epsilonField: 'norm_epsilon',
      normEpsilon: 1e-5,
    });
    const bias = config.boolean('use_bias', true);
    const own: LayerFeatures = {
      attention: { ...layer.attention, qkvBias: bias, outputBias: bias },
      mlp: { ...layer.mlp, gate: 'none', bias },
    };
    const rules = { fallbackWindow: 0, slides: () => true };
    const layers = slidingLayers(config, features.layers.length, features.maxPositions, rules, own);
    return { ...features, norm: 'layer', normBias: true, names, layers };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'starcoder2',
    huggingFace: 'Starcoder2ForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    names,
    extraConfig: (metadata) => ({
      norm_epsilon: metadata.number('attention.layer_norm_epsilon'),
      sliding_window: metadata.number('attention.sliding_window') || null,
    }),
  },
};
