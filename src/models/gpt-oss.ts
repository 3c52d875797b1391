/** gpt-oss: sinks, windows in every other layer, experts with biases and a clamped gate, stored in MXFP4. OpenAI 2025, arXiv:2508.10925. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { expertLayout, plainExperts, readExpertCounts, softmaxRouter } from './blocks/experts.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = { ...llamaNames, router: 'mlp.router' };

export const gptOss: ModelFamily = {
  name: 'gpt-oss',
  architectures: ['GptOssForCausalLM'],
  summary: 'sinks, windows in every other layer, YaRN, experts with biases and a clamped gate, in MXFP4 or plain',
  features(config, hasTensor) {
    const { layer, ...features } = readCommon(config, {
      family: 'gpt-oss',
      maxPositions: 131_072,
      ropeTheta: 150_000,
      tiedEmbeddings: false,
      normEpsilon: 1e-5,
      headDim: 64,
    });
    const bias = config.boolean('attention_bias', true);
    const layout = expertLayout(names, 0, hasTensor);
    const blocks = hasTensor(`${names.layers}0.${names.fusedExpertsGateUp}_blocks`);
    const own: LayerFeatures = {
      ...layer,
      attention: { ...layer.attention, qkvBias: bias, outputBias: bias, sinks: true },
      experts: {
        ...plainExperts({
          ...readExpertCounts(config, 'num_local_experts', 128, 4),
          intermediateSize: layer.mlp.intermediateSize,
          activation: 'silu',
          layout,
          router: { ...softmaxRouter(true), bias: true },
        }),
        bias: true,
        swigluLimit: config.positive('swiglu_limit', 7),
        // MXFP4 blocks run along the inputs, plain matrices are stored the other way; both have gate and up in turn
        transposed: layout === 'fused' && !blocks,
        interleaved: layout === 'fused',
      },
    };
    const rules = { fallbackWindow: 128, slides: (index: number) => index % 2 === 0 };
    return { ...features, names, layers: slidingLayers(config, features.layers.length, features.maxPositions, rules, own) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'gpt-oss',
    experts: true,
    huggingFace: 'GptOssForCausalLM',
    interleavedRotary: false,
    normShift: 0,
    names,
    layerTensors: { post_attention_norm: 'mlpNorm' },
    extraConfig: (metadata) => ({ sliding_window: metadata.number('attention.sliding_window') }),
    yarn: { truncate: false, beta_fast: 32, beta_slow: 1 },
  },
};
