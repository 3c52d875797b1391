/** SmolLM3: Llama whose every fourth layer does not rotate q and k (NoPE). Hugging Face 2025; NoPE: Yang et al. 2025, arXiv:2501.18795. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

export const smollm3: ModelFamily = {
  name: 'smollm3',
  architectures: ['SmolLM3ForCausalLM'],
  summary: 'every fourth layer, or those of `no_rope_layers`, without rotation',
  published: { templates: ['HuggingFaceTB-SmolLM3-3B'] },
  features(config) {
    const { layer, ...features } = readCommon(config, { family: 'smollm3', maxPositions: 32_768, ropeTheta: 2_000_000, tiedEmbeddings: true });
    const numLayers = features.layers.length;
    const bias = config.boolean('attention_bias', false);
    const own: LayerFeatures = {
      attention: { ...layer.attention, qkvBias: bias, outputBias: bias },
      mlp: { ...layer.mlp, bias: config.boolean('mlp_bias', false) },
    };
    const rotates = rotatingLayers(config, numLayers);
    const slides = config.boolean('use_sliding_window', false);
    const rules = { fallbackWindow: 0, slides: (index: number) => slides && !rotates[index] };
    const layers = slidingLayers(config, numLayers, features.maxPositions, rules, own);
    return { ...features, layers: layers.map((each, index) => (rotates[index] ? each : { ...each, attention: { ...each.attention, rope: null } })) };
  },
  build: buildDecoder,
  gguf: { architecture: 'smollm3', huggingFace: 'SmolLM3ForCausalLM', interleavedRotary: true, normShift: 0 },
};

/** `no_rope_layers` says 1 for layers that do rotate. */
function rotatingLayers(config: ConfigReader, numLayers: number): boolean[] {
  if (config.get('no_rope_layers') !== undefined) return config.numbers('no_rope_layers', numLayers).map((rotates) => rotates !== 0);
  const interval = config.integer('no_rope_layer_interval', { max: limits.layers, fallback: 4 });
  return Array.from({ length: numLayers }, (_, index) => (index + 1) % interval !== 0);
}
