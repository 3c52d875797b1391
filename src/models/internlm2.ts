/** InternLM 2 and 2.5: Llama with q, k and v of each KV head together in one tensor. Cai et al. 2024, arXiv:2403.17297. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = {
  ...llamaNames,
  embedding: 'model.tok_embeddings',
  output: 'output',
  inputNorm: 'attention_norm',
  q: 'attention.wq',
  k: 'attention.wk',
  v: 'attention.wv',
  qkv: 'attention.wqkv',
  attentionOutput: 'attention.wo',
  mlpNorm: 'ffn_norm',
  gate: 'feed_forward.w1',
  up: 'feed_forward.w3',
  down: 'feed_forward.w2',
};

export const internlm2: ModelFamily = {
  name: 'internlm2',
  architectures: ['InternLM2ForCausalLM'],
  summary: 'q, k and v of each KV head together in one tensor',
  features(config, hasTensor) {
    const { layer, ...features } = readCommon(config, { family: 'internlm2', maxPositions: 2048, ropeTheta: 10_000, tiedEmbeddings: false });
    const bias = config.boolean('bias', true);
    // GGUF files hold q, k and v apart
    const apart = hasTensor(`${names.layers}0.${names.q}.weight`);
    const own: LayerFeatures = {
      ...layer,
      attention: { ...layer.attention, qkvLayout: apart ? 'separate' : 'grouped', qkvBias: bias, outputBias: bias },
    };
    return { ...features, names, layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'internlm2',
    huggingFace: 'InternLM2ForCausalLM',
    interleavedRotary: true,
    normShift: 0,
    names,
    tensorConfig: (has) => ({ bias: has('blk.0.attn_q.bias') }),
  },
};
