/** Qwen 3, dense: norms of each head of q and k in place of Qwen 2's biases. Yang et al. 2025, arXiv:2505.09388. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { ModelFamily } from './family.ts';
import { qwenLayers } from './qwen2.ts';

export const qwen3: ModelFamily = {
  name: 'qwen3',
  architectures: ['Qwen3ForCausalLM'],
  summary: 'dense: norms of each head of q and k',
  published: { vocabularies: ['qwen2'], templates: ['Qwen-Qwen3-0.6B'] },
  features(config) {
    const common = readCommon(config, { family: 'qwen3', maxPositions: 32_768, ropeTheta: 10_000, tiedEmbeddings: false, headDim: 128 });
    const { layer } = common;
    const bias = config.boolean('attention_bias', false);
    return qwenLayers(config, common, { ...layer, attention: { ...layer.attention, qkNorm: 'heads', qkvBias: bias, outputBias: bias } });
  },
  build: buildDecoder,
  gguf: { architecture: 'qwen3', huggingFace: 'Qwen3ForCausalLM', interleavedRotary: false, normShift: 0 },
};
