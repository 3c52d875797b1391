/** GLM-4.5 and kin: dense layers first, then experts chosen by sigmoids with a correction, beside a shared one. GLM Team 2025, arXiv:2508.06471. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { expertLayout, plainExperts, readExpertCounts, readExpertGroups } from './blocks/experts.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import { limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = { ...llamaNames, sharedExpert: 'mlp.shared_experts' };

export const glm4Moe: ModelFamily = {
  name: 'glm4-moe',
  architectures: ['Glm4MoeForCausalLM'],
  summary:
    'GLM-4.5 to 4.7: dense layers, then experts chosen by sigmoids in groups with a correction, beside a shared one; half of each head rotated',
  features(config, hasTensor) {
    const { layer, ...features } = readCommon(config, {
      family: 'glm4-moe',
      maxPositions: 131_072,
      ropeTheta: 10_000,
      tiedEmbeddings: false,
      normEpsilon: 1e-5,
      partialRotary: 0.5,
    });
    const numLayers = features.layers.length;
    const firstSparse = config.integer('first_k_dense_replace', { min: 0, max: limits.layers, fallback: 1 });
    const intermediateSize = config.integer('moe_intermediate_size', { max: limits.intermediateSize, fallback: 1408 });
    const counts = readExpertCounts(config, 'n_routed_experts', 128, 8);
    const numShared = config.integer('n_shared_experts', { min: 0, max: 1024, fallback: 1 });
    const qkNorm = config.boolean('use_qk_norm', false) ? ('heads' as const) : ('none' as const);
    const dense: LayerFeatures = { ...layer, attention: { ...layer.attention, qkNorm, qkvBias: config.boolean('attention_bias', false) } };
    const sparse: LayerFeatures = {
      ...dense,
      experts: plainExperts({
        ...counts,
        intermediateSize,
        activation: layer.mlp.activation,
        layout: expertLayout(names, firstSparse, hasTensor),
        router: {
          score: 'sigmoid',
          normalise: config.boolean('norm_topk_prob', true) ? 'sum' : 'none',
          ...readExpertGroups(config, counts),
          groupScore: 'top2',
          scale: config.positive('routed_scaling_factor', 1),
          bias: false,
          correction: true,
        },
        shared: numShared === 0 ? null : { intermediateSize: intermediateSize * numShared, gated: false },
      }),
    };
    return { ...features, names, layers: Array.from({ length: numLayers }, (_, index) => (index < firstSparse ? dense : sparse)) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'glm4moe',
    experts: true,
    huggingFace: 'Glm4MoeForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    names,
    layerTensors: { post_attention_norm: 'mlpNorm' },
    extraConfig: (metadata) => {
      const layers = metadata.number('block_count');
      // the last ones predict tokens further ahead
      return layers === undefined ? {} : { num_hidden_layers: layers - (metadata.number('nextn_predict_layers') ?? 0) };
    },
    tensorConfig: (hasTensor) => ({ use_qk_norm: hasTensor('blk.0.attn_q_norm.weight') }),
  },
};
