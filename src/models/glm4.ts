/**
 * GLM-4 as Hugging Face stores it: rotary pairs side by side on half of each head, gate and up in one tensor; from GLM-4-0414 on norms on both sides of
 * attention and MLP. GLM Team 2024, arXiv:2406.12793.
 */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = { ...llamaNames, postAttentionNorm: 'post_self_attn_layernorm', postMlpNorm: 'post_mlp_layernorm' };
const SANDWICH = 'Glm4ForCausalLM';

export const glm4: ModelFamily = {
  name: 'glm4',
  architectures: [SANDWICH, 'GlmForCausalLM'],
  summary: 'rotary pairs side by side on half of each head; gate and up in one tensor; norms on both sides (`Glm4ForCausalLM`)',
  features(config) {
    const { layer, ...features } = readCommon(config, {
      family: 'glm4',
      maxPositions: 131_072,
      ropeTheta: 10_000,
      tiedEmbeddings: false,
      headDim: 128,
      normEpsilon: 1.5625e-7,
      partialRotary: 0.5,
    });
    const own: LayerFeatures = {
      attention: { ...layer.attention, ropeStyle: 'interleaved', qkvBias: config.boolean('attention_bias', true) },
      mlp: { ...layer.mlp, gate: 'fused' },
    };
    const sandwich = (config.get('architectures') as string[]).includes(SANDWICH);
    return { ...features, names, normPlacement: sandwich ? 'pre-post' : 'pre', layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: { architecture: 'glm4', huggingFace: SANDWICH, interleavedRotary: false, normShift: 0, names, layerTensors: { ffn_up: 'gateUp' } },
};
