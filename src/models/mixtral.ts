/** Mixtral: Mistral with eight experts in each layer, of which a token takes two. Jiang et al. 2024, arXiv:2401.04088. */
import { buildDecoder } from './blocks/decoder.ts';
import { readCommon, slidingLayers } from './blocks/decoder-config.ts';
import type { LayerFeatures } from './blocks/decoder-features.ts';
import { expertLayout, plainExperts, readExpertCounts, softmaxRouter } from './blocks/experts.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';

const names: TensorNames = {
  ...llamaNames,
  router: 'block_sparse_moe.gate',
  experts: 'block_sparse_moe.experts',
  expertGate: 'w1',
  expertUp: 'w3',
  expertDown: 'w2',
};
/** As models of transformers 5 are named in memory. */
const fusedNames: TensorNames = { ...llamaNames };

export const mixtral: ModelFamily = {
  name: 'mixtral',
  architectures: ['MixtralForCausalLM'],
  summary: 'experts, two of eight for each token; sliding window where the configuration has one',
  features(config, hasTensor) {
    const { layer, ...features } = readCommon(config, {
      family: 'mixtral',
      maxPositions: 131_072,
      ropeTheta: 1e6,
      tiedEmbeddings: false,
      normEpsilon: 1e-5,
    });
    const fused = expertLayout(fusedNames, 0, hasTensor) === 'fused';
    const { intermediateSize, activation } = layer.mlp;
    const own: LayerFeatures = {
      ...layer,
      experts: plainExperts({
        ...readExpertCounts(config, 'num_local_experts', 8, 2),
        intermediateSize,
        activation,
        layout: fused ? 'fused' : expertLayout(names, 0, hasTensor),
        router: softmaxRouter(true),
      }),
    };
    const rules = { fallbackWindow: 0, slides: () => true };
    const layers = slidingLayers(config, features.layers.length, features.maxPositions, rules, own);
    return { ...features, names: fused ? fusedNames : names, layers };
  },
  build: buildDecoder,
  gguf: { architecture: 'llama', experts: true, huggingFace: 'MixtralForCausalLM', interleavedRotary: true, normShift: 0, names },
};
