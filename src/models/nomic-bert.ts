/** Nomic BERT: BERT with rotary positions and a gated MLP, without biases. Nussbaum et al. 2024, arXiv:2402.01613. */
import { buildEncoder, type EncoderNames } from './blocks/encoder.ts';
import { readRopeObject } from './blocks/rope-frequencies.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { EncoderFamily } from './family.ts';

/** Positions that models were trained with; beyond them the authors' code changes the rotary base by the length of the text. */
const TRAINED_POSITIONS = 2048;

/** As the authors' checkpoints and GGUF files have them. */
const names: EncoderNames = {
  embedding: 'embeddings.word_embeddings',
  positionEmbedding: '',
  typeEmbedding: 'embeddings.token_type_embeddings',
  embeddingNorm: 'emb_ln',
  finalNorm: '',
  layers: 'encoder.layers.',
  attentionNorm: 'norm1',
  q: '',
  k: '',
  v: '',
  qkv: 'attn.Wqkv',
  attentionOutput: 'attn.out_proj',
  mlpNorm: 'norm2',
  gate: 'mlp.fc12',
  up: 'mlp.fc11',
  down: 'mlp.fc2',
};

export const nomicBert: EncoderFamily = {
  name: 'nomic-bert',
  architectures: ['NomicBertModel'],
  summary: 'Nomic Embed Text 1 and 1.5: as BERT with rotary positions and a gated MLP, without biases',
  features(given) {
    refuseOthers(given);
    const config = given.withNames({
      hidden_size: 'n_embd',
      num_hidden_layers: 'n_layer',
      num_attention_heads: 'n_head',
      intermediate_size: 'n_inner',
      max_position_embeddings: 'n_positions',
      layer_norm_eps: 'layer_norm_epsilon',
    });
    const hiddenSize = config.integer('hidden_size', { max: limits.hiddenSize, fallback: 768 });
    const numHeads = config.integer('num_attention_heads', { max: limits.heads, fallback: 12 });
    if (hiddenSize % (2 * numHeads) !== 0) throw config.invalid('hidden_size', `an even multiple of num_attention_heads (${numHeads})`);
    const headDim = hiddenSize / numHeads;
    const stated = config.integer('max_position_embeddings', { max: limits.positions, fallback: TRAINED_POSITIONS });
    const maxPositions = Math.min(stated, config.integer('max_trained_positions', { max: limits.positions, fallback: TRAINED_POSITIONS }));
    const rules = config.object('rope_parameters');
    const theta = rules?.get('rope_theta') === undefined ? config.positive('rotary_emb_base', 1000) : rules.positive('rope_theta');
    const rope = readRopeObject(rules, theta, config, { rotaryDim: headDim, maxPositions, defaultTheta: theta });
    const layer = { reach: 0, rope, attentionNorm: true };
    return {
      family: 'nomic-bert',
      vocabSize: config.integer('vocab_size', { max: limits.vocabSize, fallback: 30_528 }),
      hiddenSize,
      maxPositions,
      numHeads,
      headDim,
      intermediateSize: config.integer('intermediate_size', { max: limits.intermediateSize, fallback: 4 * hiddenSize }),
      activation: 'silu',
      gated: true,
      normEpsilon: config.positive('layer_norm_eps', 1e-12),
      normBias: true,
      attentionBias: false,
      mlpBias: false,
      normPlacement: 'post',
      positions: null,
      numTypes: config.integer('type_vocab_size', { min: 0, max: 1024, fallback: 2 }),
      layers: Array.from({ length: config.integer('num_hidden_layers', { max: limits.layers, fallback: 12 }) }, () => layer),
      names,
      fusedQkv: true,
    };
  },
  build: buildEncoder,
};

/** Settings of the authors' code that no model of this family has, but relatives do. */
function refuseOthers(config: ConfigReader): void {
  config.word('hidden_act', ['silu'], 'silu');
  config.word('activation_function', ['swiglu'], 'swiglu');
  for (const field of ['qkv_proj_bias', 'mlp_fc1_bias', 'mlp_fc2_bias', 'prenorm', 'rotary_emb_interleaved', 'use_rms_norm', 'causal']) {
    if (config.boolean(field, false)) throw config.invalid(field, 'false');
  }
  if (config.integer('moe_every_n_layers', { min: 0, max: limits.layers, fallback: 0 }) > 0)
    throw config.invalid('moe_every_n_layers', '0: no experts');
  if (config.positive('rotary_emb_fraction', 1) !== 1) throw config.invalid('rotary_emb_fraction', '1');
}
