/**
 * Baichuan 7B and 13B: Llama with q, k and v in one tensor; the 13B has ALiBi in place of rotation. Baichuan 2, whose output matrix is normalised when it
 * is used, is refused. https://github.com/baichuan-inc
 */
import { alibiSlopes } from './blocks/alibi.ts';
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

const BAICHUAN_2_VOCABULARY = 125_696;

export const baichuan: ModelFamily = {
  name: 'baichuan',
  architectures: ['BaichuanForCausalLM', 'BaiChuanForCausalLM'],
  summary: 'q, k, v in one tensor; the 13B has ALiBi. Baichuan 2, whose output matrix is normalised, is refused',
  features(given, hasTensor) {
    // the 13B names its context otherwise: it has no positions to embed
    const rotates = given.has('max_position_embeddings') && !given.boolean('alibi', false);
    const config = given.withNames({ max_position_embeddings: 'model_max_length' });
    const { layer, ...features } = readCommon(config, { family: 'baichuan', maxPositions: 4096, ropeTheta: 10_000, tiedEmbeddings: false });
    if (features.vocabSize === BAICHUAN_2_VOCABULARY)
      throw config.invalid('vocab_size', 'that of Baichuan 1: the normalised output of Baichuan 2 is not built');
    const position = rotates ? {} : { rope: null, slopes: alibiSlopes(layer.attention.numHeads) };
    // GGUF files have them apart
    const qkvLayout = hasTensor('model.layers.0.self_attn.q_proj.weight') ? 'separate' : 'fused';
    const own: LayerFeatures = { ...layer, attention: { ...layer.attention, ...position, qkvLayout } };
    return { ...features, names: { ...llamaNames, qkv: 'self_attn.W_pack' }, layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'baichuan',
    huggingFace: 'BaichuanForCausalLM',
    interleavedRotary: true,
    normShift: 0,
    // the files do not say it: 40 layers are the 13B, as llama.cpp tells it
    extraConfig: (metadata) => ({ alibi: metadata.number('block_count') === 40 || (metadata.number('attention.max_alibi_bias') ?? 0) > 0 }),
  },
};
