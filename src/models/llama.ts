/** Llama 1 to 3.x, and the many checkpoints that call themselves so. Touvron et al. 2023, arXiv:2302.13971; Llama 3: arXiv:2407.21783. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon } from './blocks/decoder-config.ts';
import type { ModelFamily } from './family.ts';

export const llama: ModelFamily = {
  name: 'llama',
  architectures: ['LlamaForCausalLM'],
  summary: 'biases on attention and MLP where the configuration has them; tied embeddings',
  published: { vocabularies: ['llama-spm'], templates: ['meta-llama-Llama-3.2-3B-Instruct'] },
  features(config) {
    const { layer, ...features } = readCommon(config, { family: 'llama', maxPositions: 2048, ropeTheta: 10_000, tiedEmbeddings: false });
    const bias = config.boolean('attention_bias', false);
    const own = {
      attention: { ...layer.attention, qkvBias: bias, outputBias: bias },
      mlp: { ...layer.mlp, bias: config.boolean('mlp_bias', false) },
    };
    return { ...features, layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  // Mistral files call themselves llama too: their converter drops the window
  gguf: { architecture: 'llama', huggingFace: 'LlamaForCausalLM', interleavedRotary: true, normShift: 0 },
};
