/** Granite 3: Llama with a multiplier each for embeddings, residuals, attention and logits. IBM 2024. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import type { ModelFamily } from './family.ts';
import type { GgufMetadata } from './gguf-names.ts';

export const granite: ModelFamily = {
  name: 'granite',
  architectures: ['GraniteForCausalLM'],
  summary: 'dense: multipliers of embeddings, residuals, attention and logits',
  published: { templates: ['ibm-granite-granite-3.3-2B-Instruct'] },
  features(config) {
    const { layer, ...features } = readCommon(config, { family: 'granite', maxPositions: 2048, ropeTheta: 10_000, tiedEmbeddings: false });
    const bias = config.boolean('attention_bias', false);
    const own: LayerFeatures = {
      attention: { ...layer.attention, scale: config.positive('attention_multiplier', 1), qkvBias: bias, outputBias: bias },
      mlp: { ...layer.mlp, bias: config.boolean('mlp_bias', false) },
    };
    return {
      ...features,
      embeddingScale: config.positive('embedding_multiplier', 1),
      residualScale: config.positive('residual_multiplier', 1),
      logitScale: 1 / config.positive('logits_scaling', 1),
      layers: features.layers.map(() => own),
    };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'granite',
    huggingFace: 'GraniteForCausalLM',
    interleavedRotary: true,
    normShift: 0,
    extraConfig: graniteMetadata,
  },
};

/** The multipliers in GGUF files. */
export function graniteMetadata(metadata: GgufMetadata): Record<string, unknown> {
  return {
    embedding_multiplier: metadata.number('embedding_scale'),
    residual_multiplier: metadata.number('residual_scale'),
    attention_multiplier: metadata.number('attention.scale'),
    logits_scaling: metadata.number('logit_scale'),
  };
}
