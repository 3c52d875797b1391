/** Granite 3 with experts: Granite's multipliers, and gate and up of all experts in one tensor. IBM 2024. */
import { buildDecoder } from './blocks/decoder.ts';
import { expertLayout, plainExperts, readExpertCounts, softmaxRouter } from './blocks/experts.ts';
import { llamaNames, type TensorNames } from './blocks/tensor-names.ts';
import type { ModelFamily } from './family.ts';
import { granite, graniteMetadata } from './granite.ts';

const names: TensorNames = {
  ...llamaNames,
  router: 'block_sparse_moe.router.layer',
  fusedExpertsGateUp: 'block_sparse_moe.input_linear.weight',
  fusedExpertsDown: 'block_sparse_moe.output_linear.weight',
};

export const graniteMoe: ModelFamily = {
  name: 'granite-moe',
  architectures: ['GraniteMoeForCausalLM'],
  summary: 'Granite with experts',
  features(config, hasTensor) {
    const features = granite.features(config, hasTensor);
    const [layer] = features.layers;
    const experts = plainExperts({
      ...readExpertCounts(config, 'num_local_experts', 8, 2),
      intermediateSize: layer.mlp.intermediateSize,
      activation: layer.mlp.activation,
      layout: expertLayout(names, 0, hasTensor),
      router: softmaxRouter(true),
    });
    const own = { ...layer, experts };
    return { ...features, family: 'granite-moe', names, layers: features.layers.map(() => own) };
  },
  build: buildDecoder,
  gguf: {
    architecture: 'granitemoe',
    experts: true,
    huggingFace: 'GraniteMoeForCausalLM',
    interleavedRotary: true,
    normShift: 0,
    names,
    extraConfig: graniteMetadata,
  },
};
