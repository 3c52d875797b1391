/**
 * GGUF files of encoders in Hugging Face terms: `general.architecture` bert (BERT, RoBERTa and XLM-RoBERTa alike), modern-bert
 * and nomic-bert. Works on plain values, as gguf-names.ts. Names: llama.cpp, conversion/bert.py and src/models/{bert,modern-bert}.cpp.
 */
import { type GgufContents, type GgufMetadata, type GgufTranslation, metadataOf } from './gguf-names.ts';

interface GgufEncoder {
  /** As `config.json` would say it, beyond what all have. */
  config(metadata: GgufMetadata, contents: GgufContents): Record<string, unknown>;
  /** Tensors by their word in the file, those of layers apart. */
  readonly outer: Readonly<Record<string, string>>;
  readonly layers: string;
  readonly inner: Readonly<Record<string, string>>;
}

const bert: GgufEncoder = {
  config: (metadata, contents) => ({
    architectures: ['BertModel'],
    layer_norm_eps: metadata.number('attention.layer_norm_epsilon'),
    // converters leave out what RoBERTa keeps before its first position
    max_position_embeddings: contents.tensorShape('position_embd.weight')?.[0] ?? metadata.number('context_length'),
    type_vocab_size: rowsOf(contents.tensorShape('token_types.weight')),
  }),
  outer: {
    token_embd: 'embeddings.word_embeddings',
    position_embd: 'embeddings.position_embeddings',
    token_types: 'embeddings.token_type_embeddings',
    token_embd_norm: 'embeddings.LayerNorm',
  },
  layers: 'encoder.layer.',
  inner: {
    attn_q: 'attention.self.query',
    attn_k: 'attention.self.key',
    attn_v: 'attention.self.value',
    attn_output: 'attention.output.dense',
    attn_output_norm: 'attention.output.LayerNorm',
    ffn_up: 'intermediate.dense',
    ffn_down: 'output.dense',
    layer_output_norm: 'output.LayerNorm',
  },
};

const modernBert: GgufEncoder = {
  config(metadata, contents) {
    const width = metadata.number('attention.sliding_window') ?? 0;
    const theta = metadata.number('rope.freq_base');
    return {
      architectures: ['ModernBertModel'],
      norm_eps: metadata.number('attention.layer_norm_epsilon'),
      max_position_embeddings: metadata.number('context_length'),
      hidden_activation: contents.metadata.get('modern-bert.hidden_activation') ?? contents.metadata.get('modern-bert.hidden_act'),
      global_rope_theta: theta,
      local_rope_theta: metadata.number('rope.freq_base_swa') ?? theta,
      // without a window every layer sees the whole text
      ...(width > 0 ? { local_attention: width } : {}),
      global_attn_every_n_layers: width > 0 ? (metadata.number('attention.sliding_window_pattern') ?? 3) : 1,
    };
  },
  outer: { token_embd: 'embeddings.tok_embeddings', token_embd_norm: 'embeddings.norm', output_norm: 'final_norm' },
  layers: 'layers.',
  inner: {
    attn_norm: 'attn_norm',
    attn_qkv: 'attn.Wqkv',
    attn_output: 'attn.Wo',
    ffn_norm: 'mlp_norm',
    ffn_up: 'mlp.Wi',
    ffn_down: 'mlp.Wo',
  },
};

const nomicBert: GgufEncoder = {
  config: (metadata, contents) => ({
    architectures: ['NomicBertModel'],
    layer_norm_eps: metadata.number('attention.layer_norm_epsilon'),
    max_position_embeddings: metadata.number('context_length'),
    type_vocab_size: rowsOf(contents.tensorShape('token_types.weight')),
    rotary_emb_base: metadata.number('rope.freq_base'),
  }),
  outer: { token_embd: 'embeddings.word_embeddings', token_types: 'embeddings.token_type_embeddings', token_embd_norm: 'emb_ln' },
  layers: 'encoder.layers.',
  inner: {
    attn_qkv: 'attn.Wqkv',
    attn_output: 'attn.out_proj',
    attn_output_norm: 'norm1',
    ffn_gate: 'mlp.fc12',
    ffn_up: 'mlp.fc11',
    ffn_down: 'mlp.fc2',
    layer_output_norm: 'norm2',
  },
};

const encoders: Readonly<Record<string, GgufEncoder>> = { bert, 'modern-bert': modernBert, 'nomic-bert': nomicBert };

/** Values of `general.architecture` that are encoders. */
export const ggufEncoderArchitectures: readonly string[] = Object.keys(encoders);

/** Translates a file; null where its architecture is no encoder that is read. @throws MODEL_CONFIG_INVALID */
export function encoderGgufToHf(contents: GgufContents): GgufTranslation | null {
  const architecture = contents.metadata.get('general.architecture');
  if (typeof architecture !== 'string' || !Object.hasOwn(encoders, architecture)) return null;
  const rules = encoders[architecture];
  const metadata = metadataOf(contents.metadata, architecture);
  const config = {
    vocab_size: contents.tensorShape('token_embd.weight')?.[0] ?? metadata.number('vocab_size'),
    hidden_size: metadata.number('embedding_length'),
    num_hidden_layers: metadata.number('block_count'),
    num_attention_heads: metadata.number('attention.head_count'),
    intermediate_size: metadata.number('feed_forward_length'),
    ...rules.config(metadata, contents),
  };
  return { config, translate: (name) => translateTensor(name, rules) };
}

/** How the file says that a text becomes one vector; undefined where it says nothing or asks for what no vector is made of. */
export function ggufPooling(contents: Pick<GgufContents, 'metadata'>): 'mean' | 'cls' | 'last' | undefined {
  const kind = metadataOf(contents.metadata, String(contents.metadata.get('general.architecture'))).number('pooling_type');
  return kind === 1 ? 'mean' : kind === 2 ? 'cls' : kind === 3 ? 'last' : undefined;
}

const TENSOR = /^(?:blk\.(\d{1,4})\.)?([a-z_]+)\.(weight|bias)$/;

function translateTensor(name: string, { outer, layers, inner }: GgufEncoder): ReturnType<GgufTranslation['translate']> {
  const match = TENSOR.exec(name);
  if (match === null) return null;
  const [, layer, word, kind] = match as unknown as [string, string | undefined, string, string];
  const known = layer === undefined ? outer : inner;
  if (!Object.hasOwn(known, word)) return null;
  const stem = layer === undefined ? known[word] : `${layers}${layer}.${known[word]}`;
  // tools drop the dimension of a single token type
  return { name: `${stem}.${kind}`, ...(word === 'token_types' ? { isMatrix: true as const } : {}) };
}

/** Rows of a matrix that may have lost its first dimension; 0 where there is none. */
function rowsOf(shape: readonly number[] | undefined): number {
  return shape === undefined ? 0 : shape.length === 1 ? 1 : shape[0];
}
