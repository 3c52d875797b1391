/** BERT (Devlin et al. 2018, arXiv:1810.04805), RoBERTa (Liu et al. 2019, arXiv:1907.11692) and XLM-RoBERTa (Conneau et al. 2019, arXiv:1911.02116). */

import { readActivationWord } from './blocks/decoder-config.ts';
import { buildEncoder, type EncoderNames } from './blocks/encoder.ts';
import { type ConfigReader, limits } from './config-reader.ts';
import type { EncoderFamily } from './family.ts';

const plainNames: EncoderNames = {
  embedding: 'embeddings.word_embeddings',
  positionEmbedding: 'embeddings.position_embeddings',
  typeEmbedding: 'embeddings.token_type_embeddings',
  embeddingNorm: 'embeddings.LayerNorm',
  finalNorm: '',
  layers: 'encoder.layer.',
  attentionNorm: 'attention.output.LayerNorm',
  q: 'attention.self.query',
  k: 'attention.self.key',
  v: 'attention.self.value',
  qkv: '',
  attentionOutput: 'attention.output.dense',
  mlpNorm: 'output.LayerNorm',
  up: 'intermediate.dense',
  down: 'output.dense',
};

export const bert: EncoderFamily = {
  name: 'bert',
  architectures: ['BertModel', 'BertForMaskedLM'],
  summary: 'encoder: every token sees the whole text; learned positions, token types, norms of the sums',
  features: (config, hasTensor) => bertFeatures('bert', config, hasTensor, { prefix: 'bert.', skipped: 0, numTypes: 2, normEpsilon: 1e-12 }),
  build: buildEncoder,
};

export const roberta: EncoderFamily = {
  name: 'roberta',
  architectures: ['RobertaModel', 'RobertaForMaskedLM', 'XLMRobertaModel', 'XLMRobertaForMaskedLM'],
  summary: 'RoBERTa and XLM-RoBERTa: as BERT; positions begin after that of the padding token',
  features(config, hasTensor) {
    const skipped = config.integer('pad_token_id', { min: 0, max: limits.vocabSize, fallback: 1 }) + 1;
    return bertFeatures('roberta', config, hasTensor, { prefix: 'roberta.', skipped, numTypes: 1, normEpsilon: 1e-12 });
  },
  build: buildEncoder,
};

interface BertDefaults {
  /** Before tensor names in checkpoints that were saved with a head. */
  readonly prefix: string;
  /** Rows of the table of positions before that of the first token. */
  readonly skipped: number;
  readonly numTypes: number;
  readonly normEpsilon: number;
}

function bertFeatures(
  family: string,
  config: ConfigReader,
  hasTensor: (name: string) => boolean,
  { prefix, skipped, numTypes, normEpsilon }: BertDefaults,
): ReturnType<EncoderFamily['features']> {
  config.word('position_embedding_type', ['absolute'], 'absolute');
  const hiddenSize = config.integer('hidden_size', { max: limits.hiddenSize, fallback: 768 });
  const numHeads = config.integer('num_attention_heads', { max: limits.heads, fallback: 12 });
  if (hiddenSize % numHeads !== 0) throw config.invalid('hidden_size', `a multiple of num_attention_heads (${numHeads})`);
  const rows = config.integer('max_position_embeddings', { min: skipped + 1, max: limits.positions, fallback: 512 });
  const layer = { reach: 0, rope: null, attentionNorm: true };
  return {
    family,
    vocabSize: config.integer('vocab_size', { max: limits.vocabSize }),
    hiddenSize,
    maxPositions: rows - skipped,
    numHeads,
    headDim: hiddenSize / numHeads,
    intermediateSize: config.integer('intermediate_size', { max: limits.intermediateSize, fallback: 4 * hiddenSize }),
    activation: readActivationWord(config, 'hidden_act', 'gelu'),
    gated: false,
    normEpsilon: config.positive('layer_norm_eps', normEpsilon),
    normBias: true,
    attentionBias: true,
    mlpBias: true,
    normPlacement: 'post',
    positions: { rows, skipped },
    numTypes: config.integer('type_vocab_size', { min: 0, max: 1024, fallback: numTypes }),
    layers: Array.from({ length: config.integer('num_hidden_layers', { max: limits.layers, fallback: 12 }) }, () => layer),
    names: hasTensor(`${prefix}${plainNames.embedding}.weight`) ? prefixed(plainNames, prefix) : plainNames,
    fusedQkv: false,
  };
}

/** Names outside of layers, and what stands before those inside, with a prefix. */
export function prefixed(names: EncoderNames, prefix: string): EncoderNames {
  const outer = ['embedding', 'positionEmbedding', 'typeEmbedding', 'embeddingNorm', 'finalNorm', 'layers'] as const;
  return { ...names, ...Object.fromEntries(outer.map((role) => [role, prefix + names[role]])) };
}
