/** OLMo 2: norms of the results of attention and MLP in place of their inputs, and of the whole q and k. OLMo Team 2024, arXiv:2501.00656. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { sandwichNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

export const olmo2: ModelFamily = {
  name: 'olmo2',
  architectures: ['Olmo2ForCausalLM'],
  summary: 'norms of results in place of inputs; norms of the whole q and k',
  features(config) {
    const { layer, ...features } = readCommon(config, {
      family: 'olmo2',
      maxPositions: 2048,
      ropeTheta: 10_000,
      tiedEmbeddings: false,
      normEpsilon: 1e-5,
    });
    const bias = config.boolean('attention_bias', false);
    const own: LayerFeatures = { ...layer, attention: { ...layer.attention, qkNorm: 'whole', qkvBias: bias, outputBias: bias } };
    return { ...features, normPlacement: 'post', names: sandwichNames, layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: { architecture: 'olmo2', huggingFace: 'Olmo2ForCausalLM', interleavedRotary: false, normShift: 0, names: sandwichNames },
};
