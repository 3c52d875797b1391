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
  /** Latent attention: down to the query's rank, its norm, up; down to the shared latent, its norm, up; or up to K and to V apart. */
  readonly qA: string;
  readonly qANorm: string;
  readonly qB: string;
  readonly kvA: string;
  readonly kvANorm: string;
  readonly kvB: string;
  readonly kB: string;
  readonly vB: string;
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
  /** Sink logits of attention, by their whole name. */
  readonly sinks: string;
  readonly router: string;
  /** The bias of the choice of experts, by its whole name. */
  readonly routerCorrection: string;
  /** What stands before the number of an expert, or before what all share. */
  readonly experts: string;
  /** What follows it, and the name of the shared expert. */
  readonly expertGate: string;
  readonly expertUp: string;
  readonly expertDown: string;
  /** Gate and up of all experts, and down of all, by their whole names. */
  readonly fusedExpertsGateUp: string;
  readonly fusedExpertsDown: string;
  readonly sharedExpert: string;
  readonly sharedExpertGate: string;
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
  qA: 'self_attn.q_a_proj',
  qANorm: 'self_attn.q_a_layernorm',
  qB: 'self_attn.q_b_proj',
  kvA: 'self_attn.kv_a_proj_with_mqa',
  kvANorm: 'self_attn.kv_a_layernorm',
  kvB: 'self_attn.kv_b_proj',
  kB: 'self_attn.k_b_proj',
  vB: 'self_attn.v_b_proj',
  attentionOutput: 'self_attn.o_proj',
  postAttentionNorm: 'self_attn.post_norm',
  mlpNorm: 'post_attention_layernorm',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  gateUp: 'mlp.gate_up_proj',
  down: 'mlp.down_proj',
  postMlpNorm: 'mlp.post_norm',
  sinks: 'self_attn.sinks',
  router: 'mlp.gate',
  routerCorrection: 'mlp.gate.e_score_correction_bias',
  experts: 'mlp.experts',
  expertGate: 'gate_proj',
  expertUp: 'up_proj',
  expertDown: 'down_proj',
  fusedExpertsGateUp: 'mlp.experts.gate_up_proj',
  fusedExpertsDown: 'mlp.experts.down_proj',
  sharedExpert: 'mlp.shared_expert',
  sharedExpertGate: 'mlp.shared_expert_gate',
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
