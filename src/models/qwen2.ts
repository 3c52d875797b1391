/** Qwen 2 and 2.5: Llama with biases on q, k, v. Yang et al. 2024, arXiv:2407.10671. */
import { buildDecoder } from './blocks/decoder.ts';
import { type CommonFeatures, readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { DecoderFeatures, LayerFeatures } from './blocks/decoder-features.ts';
import type { ConfigReader } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

export const qwen2: ModelFamily = {
  name: 'qwen2',
  architectures: ['Qwen2ForCausalLM'],
  summary: 'Qwen 2 and 2.5: biases on q, k, v; optional window from `max_window_layers` on',
  published: { vocabularies: ['qwen2'], templates: ['Qwen-Qwen2.5-7B-Instruct', 'Qwen-QwQ-32B'] },
  features(config) {
    const common = readCommon(config, { family: 'qwen2', maxPositions: 32_768, ropeTheta: 10_000, tiedEmbeddings: false });
    const { layer } = common;
    return qwenLayers(config, common, { ...layer, attention: { ...layer.attention, qkvBias: true } });
  },
  build: buildDecoder,
  gguf: { architecture: 'qwen2', huggingFace: 'Qwen2ForCausalLM', interleavedRotary: false, normShift: 0 },
};

/** Window on the layers from `max_window_layers` on, where `use_sliding_window` asks for it. */
export function qwenLayers(config: ConfigReader, { layer: _, ...features }: CommonFeatures, layer: LayerFeatures): DecoderFeatures {
  const numLayers = features.layers.length;
  if (!config.boolean('use_sliding_window', false)) return { ...features, layers: features.layers.map(() => layer) };
  const firstSliding = config.integer('max_window_layers', { min: 0, max: 1 << 20, fallback: 28 });
  const rules = { fallbackWindow: 4096, slides: (index: number) => index >= firstSliding };
  return { ...features, layers: slidingLayers(config, numLayers, features.maxPositions, rules, layer) };
}
