/** Golden checkpoints that are also read as GGUF files, and how llama.cpp's converter writes each. docs/models.md lists them. */
import type { TensorNames } from '../../src/models/blocks/tensor-names.ts';
import type { GgufEntry } from '../fixtures/checkpoint-files.ts';

export interface GgufCase {
  readonly name: string;
  readonly architecture: string;
  readonly interleaved: boolean;
  readonly norm: number;
  /** Where the file calls a tensor of a layer otherwise. */
  readonly words?: Partial<Record<keyof TensorNames, string>>;
  /** q, k and v of each KV head lie together in the checkpoint, in one tensor in turn in the file; otherwise in a tensor each. */
  readonly qkvInTurn?: boolean;
  /** Number format of experts; f32 by default. */
  readonly expertFormat?: 'mxfp4';
  /** Latent attention: the projection up to K and V is two tensors in the file. */
  readonly splitsKvB?: boolean;
  /** Metadata beyond the common. */
  readonly extra?: Readonly<Record<string, GgufEntry>>;
}

const latentWidths: NonNullable<GgufCase['extra']> = {
  'attention.kv_lora_rank': ['u32', 32],
  'attention.head_count_kv': ['u32', 1],
  'rope.dimension_count': ['u32', 8],
};

export const ggufCases: readonly GgufCase[] = [
  { name: 'llama-llama3', architecture: 'llama', interleaved: true, norm: 0 },
  { name: 'llama-yarn', architecture: 'llama', interleaved: true, norm: 0 },
  { name: 'qwen2', architecture: 'qwen2', interleaved: false, norm: 0 },
  { name: 'qwen3', architecture: 'qwen3', interleaved: false, norm: 0 },
  { name: 'gemma2', architecture: 'gemma2', interleaved: false, norm: 1 },
  { name: 'gemma3', architecture: 'gemma3', interleaved: false, norm: 1 },
  {
    name: 'phi3',
    architecture: 'phi3',
    interleaved: false,
    norm: 0,
    words: { gateUp: 'ffn_up' },
    extra: { 'rope.scaling.original_context_length': ['u32', 32] },
  },
  { name: 'chatglm', architecture: 'chatglm', interleaved: false, norm: 0, words: { gateUp: 'ffn_up' } },
  { name: 'gpt-neox', architecture: 'gptneox', interleaved: false, norm: 0, qkvInTurn: true, extra: { use_parallel_residual: ['bool', true] } },
  { name: 'bloom', architecture: 'bloom', interleaved: false, norm: 0, qkvInTurn: true },
  { name: 'falcon-7b', architecture: 'falcon', interleaved: false, norm: 0, qkvInTurn: true },
  {
    name: 'falcon-40b',
    architecture: 'falcon',
    interleaved: false,
    norm: 0,
    qkvInTurn: true,
    words: { inputNorm: 'attn_norm_2', mlpNorm: 'attn_norm' },
  },
  { name: 'baichuan-7b', architecture: 'baichuan', interleaved: true, norm: 0 },
  { name: 'baichuan-13b', architecture: 'baichuan', interleaved: true, norm: 0, extra: { 'attention.max_alibi_bias': ['f32', 8] } },
  { name: 'starcoder2', architecture: 'starcoder2', interleaved: false, norm: 0 },
  { name: 'gpt2', architecture: 'gpt2', interleaved: false, norm: 0, extra: { context_length: ['u32', 128] } },
  { name: 'internlm2', architecture: 'internlm2', interleaved: true, norm: 0 },
  { name: 'smollm3', architecture: 'smollm3', interleaved: true, norm: 0 },
  { name: 'olmo2', architecture: 'olmo2', interleaved: false, norm: 0 },
  {
    name: 'granite',
    architecture: 'granite',
    interleaved: true,
    norm: 0,
    extra: { embedding_scale: ['f32', 3], residual_scale: ['f32', 0.7], 'attention.scale': ['f32', 0.2], logit_scale: ['f32', 0.5] },
  },
  { name: 'mixtral', architecture: 'llama', interleaved: true, norm: 0 },
  { name: 'qwen2-moe', architecture: 'qwen2moe', interleaved: false, norm: 0 },
  { name: 'qwen3-moe', architecture: 'qwen3moe', interleaved: false, norm: 0 },
  { name: 'gpt-oss', architecture: 'gpt-oss', interleaved: false, norm: 0, words: { mlpNorm: 'post_attention_norm' } },
  { name: 'gpt-oss-mxfp4', architecture: 'gpt-oss', interleaved: false, norm: 0, words: { mlpNorm: 'post_attention_norm' }, expertFormat: 'mxfp4' },
  {
    name: 'glm4-moe',
    architecture: 'glm4moe',
    interleaved: false,
    norm: 0,
    words: { mlpNorm: 'post_attention_norm' },
    extra: { block_count: ['u32', 4], nextn_predict_layers: ['u32', 1] },
  },
  {
    name: 'deepseek-v2-lite',
    architecture: 'deepseek2',
    interleaved: false,
    norm: 0,
    // as files were before llama.cpp kept latent rows
    extra: { ...latentWidths, 'attention.key_length': ['u32', 20], 'attention.value_length': ['u32', 20], leading_dense_block_count: ['u32', 1] },
  },
  {
    name: 'deepseek-v3',
    architecture: 'deepseek2',
    interleaved: false,
    norm: 0,
    splitsKvB: true,
    extra: {
      ...latentWidths,
      'attention.q_lora_rank': ['u32', 24],
      'attention.key_length': ['u32', 40],
      'attention.value_length': ['u32', 32],
      'attention.key_length_mla': ['u32', 20],
      'attention.value_length_mla': ['u32', 20],
      'rope.scaling.yarn_log_multiplier': ['f32', 0.1],
      expert_gating_func: ['u32', 2],
    },
  },
  { name: 'olmoe', architecture: 'olmoe', interleaved: false, norm: 0 },
  {
    name: 'granite-moe',
    architecture: 'granitemoe',
    interleaved: true,
    norm: 0,
    extra: { embedding_scale: ['f32', 3], residual_scale: ['f32', 0.7], 'attention.scale': ['f32', 0.2], logit_scale: ['f32', 0.5] },
  },
  { name: 'glm4', architecture: 'glm4', interleaved: false, norm: 0, words: { gateUp: 'ffn_up' } },
];
