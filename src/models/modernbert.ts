/** ModernBERT: rotary positions, every third layer sees the whole text and the others a window, gated MLP. Warner et al. 2024, arXiv:2412.13663. */
import { prefixed } from './bert.ts';
import { readActivationWord } from './blocks/decoder-config.ts';
import { buildEncoder, type EncoderLayer, type EncoderNames } from './blocks/encoder.ts';
import { type RopeFeatures, readRopeObject } from './blocks/rope-frequencies.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { EncoderFamily } from './family.ts';

const plainNames: EncoderNames = {
  embedding: 'embeddings.tok_embeddings',
  positionEmbedding: '',
  typeEmbedding: '',
  embeddingNorm: 'embeddings.norm',
  finalNorm: 'final_norm',
  layers: 'layers.',
  attentionNorm: 'attn_norm',
  q: '',
  k: '',
  v: '',
  qkv: 'attn.Wqkv',
  attentionOutput: 'attn.Wo',
  mlpNorm: 'mlp_norm',
  up: 'mlp.Wi',
  down: 'mlp.Wo',
};

export const modernbert: EncoderFamily = {
  name: 'modernbert',
  architectures: ['ModernBertModel', 'ModernBertForMaskedLM'],
  summary: 'encoder: rotary positions, every third layer over the whole text and the others over a window on both sides, a gated MLP, no biases',
  features(config, hasTensor) {
    const hiddenSize = config.integer('hidden_size', { max: limits.hiddenSize, fallback: 768 });
    const numHeads = config.integer('num_attention_heads', { max: limits.heads, fallback: 12 });
    if (hiddenSize % (2 * numHeads) !== 0) throw config.invalid('hidden_size', `an even multiple of num_attention_heads (${numHeads})`);
    const maxPositions = config.integer('max_position_embeddings', { max: limits.positions, fallback: 8192 });
    return {
      family: 'modernbert',
      vocabSize: config.integer('vocab_size', { max: limits.vocabSize, fallback: 50_368 }),
      hiddenSize,
      maxPositions,
      numHeads,
      headDim: hiddenSize / numHeads,
      intermediateSize: config.integer('intermediate_size', { max: limits.intermediateSize, fallback: 1152 }),
      activation: readActivationWord(config, 'hidden_activation', 'gelu'),
      gated: true,
      normEpsilon: config.positive('norm_eps', 1e-5),
      normBias: config.boolean('norm_bias', false),
      attentionBias: config.boolean('attention_bias', false),
      mlpBias: config.boolean('mlp_bias', false),
      normPlacement: 'pre',
      positions: null,
      numTypes: 0,
      layers: readLayers(config, hiddenSize / numHeads, maxPositions),
      names: hasTensor(`model.${plainNames.embedding}.weight`) ? prefixed(plainNames, 'model.') : plainNames,
      fusedQkv: true,
    };
  },
  build: buildEncoder,
};

function readLayers(config: ConfigReader, headDim: number, maxPositions: number): EncoderLayer[] {
  const numLayers = config.integer('num_hidden_layers', { max: limits.layers, fallback: 22 });
  const every = config.integer('global_attn_every_n_layers', { max: limits.layers, fallback: 3 });
  const types = config.get('layer_types');
  const known = Array.isArray(types) && types.length === numLayers && types.every((t) => t === 'full_attention' || t === 'sliding_attention');
  if (types !== undefined && !known) throw config.invalid('layer_types', `a list of ${numLayers} words, each full_attention or sliding_attention`);
  const isFull = (index: number) => (known ? types[index] === 'full_attention' : index % every === 0);
  // `local_attention` is the width of the window: half of it on either side
  const reach = Math.floor(config.integer('local_attention', { max: limits.positions, fallback: 128 }) / 2) + 1;
  const parameters = config.object('rope_parameters');
  const ropeOf = (kind: 'full_attention' | 'sliding_attention', field: string, fallback: number): RopeFeatures => {
    const rules = parameters?.object(kind);
    const theta = rules?.get('rope_theta') === undefined ? config.positive(field, fallback) : rules.positive('rope_theta');
    return readRopeObject(rules ?? config.object('rope_scaling'), theta, config, { rotaryDim: headDim, maxPositions, defaultTheta: theta });
  };
  const [full, local] = [ropeOf('full_attention', 'global_rope_theta', 160_000), ropeOf('sliding_attention', 'local_rope_theta', 10_000)];
  return Array.from({ length: numLayers }, (_, index) => {
    const attentionNorm = index > 0;
    return isFull(index) ? { reach: 0, rope: full, attentionNorm } : { reach, rope: local, attentionNorm };
  });
}
