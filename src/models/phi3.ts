/** Phi-3, Phi-3.5 and Phi-4: Llama with q, k, v in one tensor and gate and up in another, LongRoPE for long contexts. Abdin et al. 2024, arXiv:2404.14219. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import type { ModelFamily } from './family.ts';

export const phi3: ModelFamily = {
  name: 'phi3',
  architectures: ['Phi3ForCausalLM'],
  summary: 'Phi 3, 3.5 and 4: q, k, v in one tensor, gate and up in one; rotation of a part of each head; `longrope`; optional window',
  published: { vocabularies: ['phi-3'] },
  features(config) {
    const { layer, ...features } = readCommon(config, {
      family: 'phi3',
      maxPositions: 4096,
      ropeTheta: 10_000,
      tiedEmbeddings: false,
      normEpsilon: 1e-5,
    });
    const own: LayerFeatures = { attention: { ...layer.attention, qkvLayout: 'fused' }, mlp: { ...layer.mlp, gate: 'fused' } };
    const rules = { fallbackWindow: 0, slides: () => true };
    return { ...features, layers: slidingLayers(config, features.layers.length, features.maxPositions, rules, own) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'phi3',
    huggingFace: 'Phi3ForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    layerTensors: { ffn_up: 'gateUp' },
    extraConfig: (metadata) => ({ sliding_window: metadata.number('attention.sliding_window') || null }),
  },
};
