/** Mistral 7B and kin: Llama with a sliding window on every layer, where the configuration has one. Jiang et al. 2023, arXiv:2310.06825. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { ModelFamily } from './family.ts';

export const mistral: ModelFamily = {
  name: 'mistral',
  architectures: ['MistralForCausalLM'],
  summary: 'sliding window on every layer, unless `sliding_window` is null',
  published: { templates: ['mistralai-Mistral-Nemo-Instruct-2407', 'Mistral-Small-3.2-24B-Instruct-2506'] },
  features(config) {
    const { layer, ...features } = readCommon(config, { family: 'mistral', maxPositions: 131_072, ropeTheta: 10_000, tiedEmbeddings: false });
    const rules = { fallbackWindow: 4096, slides: () => true };
    return { ...features, layers: slidingLayers(config, features.layers.length, features.maxPositions, rules, layer) };
  },
  build: buildDecoder,
};
