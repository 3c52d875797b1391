/**
 * DeepSeek-V2, V2-Lite, V3 and R1: multi-head latent attention. DeepSeek-AI 2024, arXiv:2405.04434 and arXiv:2412.19437.
 */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { ActivationFunction, AttentionFeatures, ExpertFeatures, LayerFeatures } from './blocks/decoder-features.ts';
import { expertLayout, plainExperts, readExpertCounts, readExpertGroups } from './blocks/experts.ts';
import type { RopeScaling } from './blocks/rope-frequencies.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { ModelFamily } from './family.ts';
import type { GgufMetadata } from './gguf-names.ts';

const names: TensorNames = { ...llamaNames, sharedExpert: 'mlp.shared_experts' };

/** Of the two norms of what is compressed, whatever the configuration says of the others. */
const LATENT_NORM_EPSILON = 1e-6;

export const deepseek: ModelFamily = {
  name: 'deepseek',
  summary:
    'DeepSeek-V2, V2-Lite, V3, R1: latent attention, whose cache holds one short row a token for all heads; experts with shared ones, in groups',
  architectures: ['DeepseekV2ForCausalLM', 'DeepseekV3ForCausalLM'],
  features(given, hasTensor) {
    const rotaryDim = given.integer('qk_rope_head_dim', { max: limits.headDim, fallback: 64 });
    if (given.integer('head_dim', { max: limits.headDim, fallback: rotaryDim }) % 2 !== 0) throw given.invalid('head_dim', 'an even number');
    // head_dim means one thing or another in these configurations; what is rotated is qk_rope_head_dim
    const config = given.without('head_dim').withValues({ head_dim: rotaryDim });
    const { layer, ...features } = readCommon(config, { family: 'deepseek', maxPositions: 2048, ropeTheta: 10_000, tiedEmbeddings: false });
    const attention = latentFeatures(config, layer.attention, rotaryDim, hasTensor);
    const dense: LayerFeatures = { attention, mlp: layer.mlp };
    const numLayers = features.layers.length;
    const numDense =
      config.get('n_routed_experts') === undefined ? numLayers : config.integer('first_k_dense_replace', { min: 0, max: limits.layers, fallback: 0 });
    if (config.integer('moe_layer_freq', { max: limits.layers, fallback: 1 }) !== 1)
      throw config.invalid('moe_layer_freq', '1, as in every published model');
    const sparse: LayerFeatures = numDense >= numLayers ? dense : { ...dense, experts: expertsOf(config, layer.mlp.activation, numDense, hasTensor) };
    return { ...features, names, layers: Array.from({ length: numLayers }, (_, index) => (index < numDense ? dense : sparse)) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'deepseek2',
    experts: true,
    latentHeads: true,
    huggingFace: 'DeepseekV2ForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    names,
    extraConfig: ggufFields,
    tensorConfig: (has) => ({
      attention_bias: has('blk.0.attn_kv_a_mqa.bias'),
      ...(has('blk.0.attn_q_a.weight') ? {} : { q_lora_rank: null }),
    }),
  },
};

/** V3 calls itself deepseek2 as well; its gating function is the second of llama.cpp's list, sigmoids. */
function ggufFields(metadata: GgufMetadata): Record<string, unknown> {
  const isV3 = metadata.number('expert_gating_func') === 2;
  const groups = metadata.number('expert_group_count') ?? 1;
  // files of before and after latent caches have the widths of a head under different keys
  const keyDim = metadata.number('attention.key_length_mla') ?? metadata.number('attention.key_length');
  const rotaryDim = metadata.number('rope.dimension_count');
  const numLayers = metadata.number('block_count');
  return {
    // the last ones predict tokens further ahead
    num_hidden_layers: numLayers === undefined ? undefined : numLayers - (metadata.number('nextn_predict_layers') ?? 0),
    architectures: [isV3 ? 'DeepseekV3ForCausalLM' : 'DeepseekV2ForCausalLM'],
    kv_lora_rank: metadata.number('attention.kv_lora_rank'),
    q_lora_rank: metadata.number('attention.q_lora_rank'),
    qk_rope_head_dim: rotaryDim,
    qk_nope_head_dim: keyDim === undefined || rotaryDim === undefined ? undefined : keyDim - rotaryDim,
    v_head_dim: metadata.number('attention.value_length_mla') ?? metadata.number('attention.value_length'),
    partial_rotary_factor: 1,
    topk_method: isV3 ? 'noaux_tc' : groups > 1 ? 'group_limited_greedy' : 'greedy',
  };
}

function latentFeatures(config: ConfigReader, common: AttentionFeatures, rotaryDim: number, hasTensor: (name: string) => boolean): AttentionFeatures {
  const width = (field: string, fallback: number, max: number = limits.headDim) => config.integer(field, { max, fallback });
  const [kvRank, nopeDim] = [width('kv_lora_rank', 512), width('qk_nope_head_dim', 128)];
  // two words for it: the field absent takes the default, null means none
  const qRank = config.has('q_lora_rank') && config.get('q_lora_rank') === undefined ? 0 : width('q_lora_rank', 1536, limits.hiddenSize);
  for (const [field, value] of [
    ['qk_nope_head_dim', nopeDim],
    ['kv_lora_rank', kvRank],
  ] as const) {
    if (value % 4 !== 0) throw config.invalid(field, 'a multiple of 4');
  }
  if (kvRank + rotaryDim > limits.headDim)
    throw config.invalid('kv_lora_rank', `at most ${limits.headDim - rotaryDim}, so that a row of the cache fits`);
  const bias = config.boolean('attention_bias', false);
  const { rope } = common;
  return {
    ...common,
    headDim: kvRank + rotaryDim,
    numKvHeads: 1,
    scale: (nopeDim + rotaryDim) ** -0.5 * (rope === null ? 1 : yarnScale(config, rope.scaling)),
    ropeStyle: config.boolean('rope_interleave', true) ? 'interleaved' : 'half',
    outputBias: bias,
    latent: {
      qRank,
      kvRank,
      nopeDim,
      rotaryDim,
      valueDim: width('v_head_dim', 128),
      normEpsilon: LATENT_NORM_EPSILON,
      bias,
      kvB: hasTensor(`${llamaNames.layers}0.${llamaNames.kB}.weight`) ? 'split' : 'fused',
    },
  };
}

/** Experts of the layers from `firstSparse` on. The version is told by the router: sigmoids with a correction of the choice are V3's. */
function expertsOf(config: ConfigReader, activation: ActivationFunction, firstSparse: number, hasTensor: (name: string) => boolean): ExpertFeatures {
  const architectures = config.get('architectures');
  const isV3 = Array.isArray(architectures) && architectures.includes('DeepseekV3ForCausalLM');
  const methods = ['greedy', 'group_limited_greedy', 'noaux_tc'] as const;
  const method = config.word('topk_method', methods, isV3 ? 'noaux_tc' : 'greedy');
  const intermediateSize = config.integer('moe_intermediate_size', { max: limits.intermediateSize, fallback: isV3 ? 2048 : 1407 });
  const numShared = config.integer('n_shared_experts', { min: 0, max: 1024, fallback: isV3 ? 1 : 2 });
  const counts = readExpertCounts(config, 'n_routed_experts', isV3 ? 256 : 64, isV3 ? 8 : 6);
  const published = isV3 ? { groups: 8, keptGroups: 4 } : { groups: 1, keptGroups: 1 };
  const groups = method === 'greedy' ? { groups: 1, keptGroups: 1 } : readExpertGroups(config, counts, published);
  const normalises = config.boolean('norm_topk_prob', isV3);
  if (normalises && method !== 'noaux_tc') throw config.invalid('norm_topk_prob', 'false, as in every published model of this kind');
  return plainExperts({
    ...counts,
    intermediateSize,
    activation,
    layout: expertLayout(names, firstSparse, hasTensor),
    router: {
      score: config.word('scoring_func', ['softmax', 'sigmoid'], method === 'noaux_tc' ? 'sigmoid' : 'softmax'),
      normalise: normalises ? 'sum' : 'none',
      ...groups,
      groupScore: method === 'noaux_tc' ? 'top2' : 'max',
      scale: config.positive('routed_scaling_factor', isV3 ? 2.5 : 1),
      bias: false,
      correction: method === 'noaux_tc',
    },
    shared: numShared === 0 ? null : { intermediateSize: intermediateSize * numShared, gated: false },
  });
}

/** What YaRN with `mscale_all_dim` multiplies scores by: the square of its magnitude, which other families have in cos and sin. */
function yarnScale(config: ConfigReader, scaling: RopeScaling): number {
  if (scaling.kind !== 'yarn') return 1;
  const rules = config.object('rope_parameters') ?? config.object('rope_scaling');
  const allDim = rules?.positiveOrNone('mscale_all_dim') ?? 0;
  return allDim === 0 || scaling.factor <= 1 ? 1 : (0.1 * allDim * Math.log(scaling.factor) + 1) ** 2;
}
