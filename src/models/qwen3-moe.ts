/** Qwen 3 with experts: 128 small ones, eight for each token, none shared. Yang et al. 2025, arXiv:2505.09388. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import { plainExperts, readExpertCounts, softmaxRouter } from './blocks/experts.ts';
import { limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';
import { qwenLayers } from './qwen2.ts';
import { qwenExpertLayout, withExperts } from './qwen2-moe.ts';

export const qwen3Moe: ModelFamily = {
  name: 'qwen3-moe',
  architectures: ['Qwen3MoeForCausalLM'],
  summary: 'Qwen 3 with experts: norms of each head of q and k',
  published: { vocabularies: ['qwen2'] },
  features(config, hasTensor) {
    const common = readCommon(config, { family: 'qwen3-moe', maxPositions: 32_768, ropeTheta: 10_000, tiedEmbeddings: false });
    const bias = config.boolean('attention_bias', false);
    const attention = { ...common.layer.attention, qkNorm: 'heads' as const, qkvBias: bias, outputBias: bias };
    const features = qwenLayers(config, common, { ...common.layer, attention });
    const experts = plainExperts({
      ...readExpertCounts(config.withNames({ num_experts: 'num_local_experts' }), 'num_experts', 128, 8),
      intermediateSize: config.integer('moe_intermediate_size', { max: limits.intermediateSize, fallback: 768 }),
      activation: common.layer.mlp.activation,
      layout: qwenExpertLayout(config, hasTensor),
      router: softmaxRouter(config.boolean('norm_topk_prob', false)),
    });
    return { ...features, layers: withExperts(config, features.layers, experts) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'qwen3moe',
    experts: true,
    huggingFace: 'Qwen3MoeForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    // files do not say: all published models share the weights out anew
    extraConfig: (metadata) => ({ norm_topk_prob: metadata.boolean('expert_weights_norm') ?? true }),
  },
};
