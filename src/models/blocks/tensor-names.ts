/** What a checkpoint calls its tensors, by what they do. Without `.weight` and `.bias`. */
export interface TensorNames {
  readonly embedding: string;
  readonly positionEmbedding: string;
  readonly embeddingNorm: string;
  readonly finalNorm: string;
  /** Output matrix, unless tied. */
  readonly output: string;
  /** What stands before the number of a layer. The names below follow `<layers><number>.` */
  readonly layers: string;
  readonly inputNorm: string;
  readonly q: string;
  readonly k: string;
  readonly v: string;
  /** q, k and v in one tensor, where the family has it so. */
  readonly qkv: string;
  readonly qNorm: string;
  readonly kNorm: string;
  readonly attentionOutput: string;
  /** Of the result of attention, before it is added. */
  readonly postAttentionNorm: string;
  readonly mlpNorm: string;
  readonly gate: string;
  readonly up: string;
  /** gate and up in one tensor. */
  readonly gateUp: string;
  readonly down: string;
  /** Of the result of the MLP, before it is added. */
  readonly postMlpNorm: string;
}

/** As Llama and most that came after it. */
export const llamaNames: TensorNames = {
  embedding: 'model.embed_tokens',
  positionEmbedding: 'model.embed_positions',
  embeddingNorm: 'model.embed_norm',
  finalNorm: 'model.norm',
  output: 'lm_head',
  layers: 'model.layers.',
  inputNorm: 'input_layernorm',
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  qkv: 'self_attn.qkv_proj',
  qNorm: 'self_attn.q_norm',
  kNorm: 'self_attn.k_norm',
  attentionOutput: 'self_attn.o_proj',
  postAttentionNorm: 'self_attn.post_norm',
  mlpNorm: 'post_attention_layernorm',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  gateUp: 'mlp.gate_up_proj',
  down: 'mlp.down_proj',
  postMlpNorm: 'mlp.post_norm',
};

/** As Gemma 2, whose norms stand on both sides of attention and MLP. */
export const sandwichNames: TensorNames = {
  ...llamaNames,
  postAttentionNorm: 'post_attention_layernorm',
  mlpNorm: 'pre_feedforward_layernorm',
  postMlpNorm: 'post_feedforward_layernorm',
};

/** The same names with `model.` replaced. */
export function withPrefix(names: TensorNames, prefix: string): TensorNames {
  const moved = Object.entries(names).map(([role, name]: [string, string]) => [role, name.startsWith('model.') ? prefix + name.slice(6) : name]);
  return Object.fromEntries(moved) as Record<keyof TensorNames, string>;
}
