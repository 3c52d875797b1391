/** Gemma 2: norms before and after each block, soft caps, a window on every second layer. Gemma Team 2024, arXiv:2408.00118. */
import { roundToBf16 } from '../base/dtype.ts';
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { DecoderFeatures, LayerFeatures } from './blocks/decoder-features.ts';
import { sandwichNames } from './blocks/tensor-names.ts';
import type { ConfigReader } from './config-reader.ts';
import type { ModelFamily } from './family.ts';

export const gemma2: ModelFamily = {
  name: 'gemma2',
  architectures: ['Gemma2ForCausalLM'],
  summary: 'norms on both sides of each block, soft caps on scores and logits, window on every second layer, scaled embeddings',
  features(config) {
    const { layer, ...features } = readCommon(config, {
      family: 'gemma2',
      maxPositions: 8192,
      ropeTheta: 10_000,
      tiedEmbeddings: true,
      activationField: 'hidden_activation',
      activation: 'gelu_pytorch_tanh',
      headDim: 256,
    });
    const own: LayerFeatures = {
      ...layer,
      attention: { ...gemmaAttention(config, layer), softCap: gemmaSoftCap(config, 'attn_logit_softcapping', 50) },
    };
    const rules = { fallbackWindow: 4096, slides: (index: number) => index % 2 === 0 };
    return {
      ...features,
      ...gemmaNorms(config, features.hiddenSize),
      names: sandwichNames,
      logitSoftCap: gemmaSoftCap(config, 'final_logit_softcapping', 30),
      layers: slidingLayers(config, features.layers.length, features.maxPositions, rules, own),
    };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'gemma2',
    huggingFace: 'Gemma2ForCausalLM',
    interleavedRotary: false,
    normShift: -1,
    names: sandwichNames,
    extraConfig: (metadata) => ({
      attn_logit_softcapping: metadata.number('attn_logit_softcapping'),
      final_logit_softcapping: metadata.number('final_logit_softcapping'),
      sliding_window: metadata.number('attention.sliding_window'),
      // the file does not say it: the 27B model alone (46 layers) divides by hidden size / heads
      query_pre_attn_scalar: queryScalar(
        metadata.number('block_count') === 46,
        metadata.number('embedding_length'),
        metadata.number('attention.head_count'),
        metadata.number('attention.key_length'),
      ),
    }),
  },
};

/** Norms store `weight - 1` and stand on both sides; embeddings are scaled by sqrt(hidden size), rounded as the checkpoint's number type rounds it. */
export function gemmaNorms(config: ConfigReader, hiddenSize: number): Pick<DecoderFeatures, 'normWeightOffset' | 'normPlacement' | 'embeddingScale'> {
  const scale = Math.sqrt(hiddenSize);
  const isBf16 = (config.get('dtype') ?? config.get('torch_dtype')) === 'bfloat16';
  return { normWeightOffset: 1, normPlacement: 'pre-post', embeddingScale: isBf16 ? roundToBf16(scale) : Math.fround(scale) };
}

export function gemmaAttention(config: ConfigReader, { attention }: LayerFeatures): LayerFeatures['attention'] {
  const bias = config.boolean('attention_bias', false);
  return { ...attention, scale: 1 / Math.sqrt(config.positive('query_pre_attn_scalar', 256)), qkvBias: bias, outputBias: bias };
}

/** A cap; null switches it off, absence means the family's own. */
export function gemmaSoftCap(config: ConfigReader, field: string, fallback: number): number {
  return config.has(field) ? config.positiveOrNone(field) : fallback;
}

/** `query_pre_attn_scalar` of a GGUF file. */
export function queryScalar(
  isLargest: boolean,
  hiddenSize: number | undefined,
  numHeads: number | undefined,
  headDim: number | undefined,
): number | undefined {
  return isLargest && hiddenSize !== undefined && numHeads ? hiddenSize / numHeads : headDim;
}
