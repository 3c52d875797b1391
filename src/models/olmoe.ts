/** OLMoE: 64 small experts, eight for each token; norms of the whole of q and k. Muennighoff et al. 2024, arXiv:2409.02060. */
import { MillraceError } from '../base/errors.ts';
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { expertLayout, plainExperts, readExpertCounts, softmaxRouter } from './blocks/experts.ts';
import { llamaNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

export const olmoe: ModelFamily = {
  name: 'olmoe',
  architectures: ['OlmoeForCausalLM'],
  summary: 'experts; norms of the whole of q and k',
  features(config, hasTensor) {
    if (config.get('clip_qkv') !== undefined) throw clipped(config.get('clip_qkv'));
    const { layer, ...features } = readCommon(config, {
      family: 'olmoe',
      maxPositions: 4096,
      ropeTheta: 10_000,
      tiedEmbeddings: false,
      normEpsilon: 1e-5,
    });
    const bias = config.boolean('attention_bias', false);
    const own: LayerFeatures = {
      ...layer,
      attention: { ...layer.attention, qkNorm: 'whole', qkvBias: bias, outputBias: bias },
      experts: plainExperts({
        ...readExpertCounts(config, 'num_experts', 64, 8),
        intermediateSize: layer.mlp.intermediateSize,
        activation: layer.mlp.activation,
        layout: expertLayout(llamaNames, 0, hasTensor),
        router: softmaxRouter(config.boolean('norm_topk_prob', false)),
      }),
    };
    return { ...features, layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: { architecture: 'olmoe', experts: true, huggingFace: 'OlmoeForCausalLM', interleavedRotary: false, normShift: 0 },
};

function clipped(value: unknown): MillraceError {
  return new MillraceError('MODEL_CONFIG_INVALID', {
    message: 'Field clip_qkv of the model configuration asks for values of q, k and v to be clipped, which is not built: no published model does.',
    expected: 'null',
    received: String(value).slice(0, 80),
  });
}
