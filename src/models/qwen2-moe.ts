/** Qwen 1.5 and 2 with experts: Qwen 2 with many small experts and one that all tokens share, behind a gate. Yang et al. 2024, arXiv:2407.10671. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { ExpertFeatures, LayerFeatures } from './blocks/decoder-features.ts';
import { expertLayout, plainExperts, readExpertCounts, softmaxRouter } from './blocks/experts.ts';
import { llamaNames } from './blocks/tensor-names.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';
import { qwenLayers } from './qwen2.ts';

export const qwen2Moe: ModelFamily = {
  name: 'qwen2-moe',
  architectures: ['Qwen2MoeForCausalLM'],
  summary: 'Qwen 1.5 and 2 with experts: biases on q, k, v; a shared expert behind a gate',
  published: { vocabularies: ['qwen2'] },
  features(config, hasTensor) {
    const common = readCommon(config, { family: 'qwen2-moe', maxPositions: 32_768, ropeTheta: 10_000, tiedEmbeddings: false });
    const attention = { ...common.layer.attention, qkvBias: config.boolean('qkv_bias', true) };
    const features = qwenLayers(config, common, { ...common.layer, attention });
    const experts = plainExperts({
      ...readExpertCounts(config, 'num_experts', 60, 4),
      intermediateSize: config.integer('moe_intermediate_size', { max: limits.intermediateSize, fallback: 1408 }),
      activation: common.layer.mlp.activation,
      layout: qwenExpertLayout(config, hasTensor),
      router: softmaxRouter(config.boolean('norm_topk_prob', false)),
      shared: { intermediateSize: config.integer('shared_expert_intermediate_size', { max: limits.intermediateSize, fallback: 5632 }), gated: true },
    });
    return { ...features, layers: withExperts(config, features.layers, experts) };
  },
  build: buildDecoder,
  gguf: { architecture: 'qwen2moe', experts: true, huggingFace: 'Qwen2MoeForCausalLM', interleavedRotary: false, normShift: 0 },
};

/** Experts in the layers that `decoder_sparse_step` and `mlp_only_layers` leave to them. */
export function withExperts(config: ConfigReader, layers: readonly LayerFeatures[], experts: ExpertFeatures): LayerFeatures[] {
  const sparse = sparseLayers(config);
  const known = new Map<LayerFeatures, LayerFeatures>();
  return layers.map((layer, index) => {
    if (!sparse(index)) return layer;
    const own = known.get(layer) ?? { ...layer, experts };
    known.set(layer, own);
    return own;
  });
}

/** How the first layer with experts holds them. */
export function qwenExpertLayout(config: ConfigReader, hasTensor: (name: string) => boolean): ExpertFeatures['layout'] {
  const numLayers = config.integer('num_hidden_layers', { max: limits.layers });
  const first = Array.from({ length: numLayers }, (_, index) => index).find(sparseLayers(config));
  return expertLayout(llamaNames, first ?? 0, hasTensor);
}

function sparseLayers(config: ConfigReader): (index: number) => boolean {
  const step = config.integer('decoder_sparse_step', { max: limits.layers, fallback: 1 });
  const dense = config.get('mlp_only_layers') ?? [];
  if (!Array.isArray(dense) || !dense.every((index) => Number.isInteger(index))) throw config.invalid('mlp_only_layers', 'a list of layer numbers');
  return (index) => !dense.includes(index) && (index + 1) % step === 0;
}
