import { describe, expect, test } from 'vitest';
import type { WeightFormat } from '../plan/plan.ts';
import { activationFor } from './activation.ts';
import { alibiSlopes } from './blocks/alibi.ts';
import { families, familyFor, ggufToHf, readModel } from './index.ts';

const tiny = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: 96,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 128,
};
const as = (architecture: string, more: Record<string, unknown> = {}) => ({ ...tiny, architectures: [architecture], ...more });
const windows = (config: unknown) => readModel(config).features.layers.map((layer) => layer.attention.window);
const planOf = (config: unknown, format: WeightFormat = 'f32') => readModel(config).build({ formatOf: () => format, activationFor: () => 'f32' });

test('an unknown architecture is answered with the known ones', () => {
  expect(() => familyFor(as('MambaForCausalLM'))).toThrow(
    expect.objectContaining({
      code: 'MODEL_ARCHITECTURE_UNKNOWN',
      received: 'MambaForCausalLM',
      expected: expect.stringContaining('Qwen3ForCausalLM'),
    }),
  );
  expect(() =>
    ggufToHf({ metadata: new Map([['general.architecture', 'mamba']]), tensorShape: () => undefined, readVector: () => undefined }),
  ).toThrow(expect.objectContaining({ code: 'MODEL_ARCHITECTURE_UNKNOWN', expected: expect.stringContaining('gemma3') }));
});

test('a configuration that is no object, or has no architectures, is refused', () => {
  for (const config of [null, 7, 'x', [], {}, { architectures: 'LlamaForCausalLM' }]) {
    expect(() => familyFor(config)).toThrow(expect.objectContaining({ code: 'MODEL_CONFIG_INVALID' }));
  }
});

describe('every family', () => {
  const broken: [string, unknown][] = [
    ['hidden_size', undefined],
    ['hidden_size', 0],
    ['hidden_size', 1e12],
    ['num_hidden_layers', 1e9],
    ['num_hidden_layers', 2.5],
    ['num_attention_heads', '4'],
    ['num_key_value_heads', 3],
    ['head_dim', 7],
    ['head_dim', -8],
    ['vocab_size', null],
    ['vocab_size', 2 ** 40],
    ['intermediate_size', Number.NaN],
    ['max_position_embeddings', -1],
    ['rms_norm_eps', 'small'],
    ['tie_word_embeddings', 'yes'],
  ];
  /** Where a family spells a field otherwise. */
  const spellings: Record<string, Record<string, string>> = {
    GPTNeoXForCausalLM: { rms_norm_eps: 'layer_norm_eps' },
    FalconForCausalLM: { rms_norm_eps: 'layer_norm_epsilon', num_key_value_heads: 'num_kv_heads' },
    Starcoder2ForCausalLM: { rms_norm_eps: 'norm_epsilon' },
    GPT2LMHeadModel: { rms_norm_eps: 'layer_norm_epsilon' },
    ChatGLMModel: { rms_norm_eps: 'layernorm_epsilon' },
    BloomForCausalLM: { rms_norm_eps: 'layer_norm_epsilon' },
  };
  const architectures = Object.values(families).map((family) => family.architectures[0]);

  test.each(architectures)('%s names the field that is wrong', (architecture) => {
    for (const [plain, value] of broken) {
      const field = spellings[architecture]?.[plain] ?? plain;
      const attempt = () => readModel(as(architecture, { new_decoder_architecture: true, [field]: value }));
      expect(attempt, `${field}: ${String(value)}`).toThrow(
        expect.objectContaining({
          code: 'MODEL_CONFIG_INVALID',
          message: expect.stringContaining(plain === 'num_key_value_heads' ? plain : field),
          expected: expect.any(String),
          received: expect.any(String),
        }),
      );
    }
  });

  test.each(architectures)('%s writes stages that follow each other and share no layer', (architecture) => {
    const model = readModel(as(architecture));
    const options = { formatOf: () => 'f32' as const, activationFor: () => 'f32' as const };
    const first = model.build(options, { from: 0, to: 2 });
    const last = model.build(options, { from: 2, to: 6 });
    expect(first.input.kind).toBe('tokenIds');
    expect(Object.keys(first.outputs)).toEqual(['hidden']);
    expect(last.input.kind).toBe('embeddings');
    expect(Object.keys(last.outputs).sort()).toEqual(['hidden', 'logits']);
    const numLayers = (plan: typeof first) => plan.cacheGroups.reduce((sum, group) => sum + group.numLayers, 0);
    expect([numLayers(first), numLayers(last)]).toEqual([2, 4]);
    expect(() => model.build(options, { from: 3, to: 3 })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(() => model.build(options, { from: 0, to: 7 })).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});

test('windows follow the rule of each family, or layer_types where it is written', () => {
  expect(windows(as('MistralForCausalLM', { sliding_window: 16 }))).toEqual([16, 16, 16, 16, 16, 16]);
  expect(windows(as('MistralForCausalLM', { sliding_window: null }))).toEqual([0, 0, 0, 0, 0, 0]);
  expect(windows(as('Qwen2ForCausalLM', { sliding_window: 16 }))).toEqual([0, 0, 0, 0, 0, 0]);
  expect(windows(as('Qwen2ForCausalLM', { sliding_window: 16, use_sliding_window: true, max_window_layers: 4 }))).toEqual([0, 0, 0, 0, 16, 16]);
  expect(windows(as('Gemma2ForCausalLM', { sliding_window: 16 }))).toEqual([16, 0, 16, 0, 16, 0]);
  expect(windows(as('Gemma3ForCausalLM', { sliding_window: 16 }))).toEqual([16, 16, 16, 16, 16, 0]);
  expect(windows(as('Gemma3ForCausalLM', { sliding_window: 16, sliding_window_pattern: 2 }))).toEqual([16, 0, 16, 0, 16, 0]);
  const types = ['full_attention', 'sliding_attention', 'sliding_attention', 'full_attention', 'full_attention', 'full_attention'];
  expect(windows(as('Gemma2ForCausalLM', { sliding_window: 16, layer_types: types }))).toEqual([0, 16, 16, 0, 0, 0]);
});

test('a window as long as the context is no window, and then there is one cache group', () => {
  expect(windows(as('Gemma2ForCausalLM', { sliding_window: 128 }))).toEqual([0, 0, 0, 0, 0, 0]);
  expect(planOf(as('Gemma2ForCausalLM', { sliding_window: 16 })).cacheGroups).toMatchObject([
    { name: 'window', kind: 'window', window: 16, numLayers: 3 },
    { name: 'full', kind: 'full', numLayers: 3 },
  ]);
  expect(planOf(as('Gemma2ForCausalLM', { sliding_window: 128 })).cacheGroups).toMatchObject([{ name: 'full', numLayers: 6 }]);
});

test('sliding layers without a window, or layer_types of another length or word, are refused', () => {
  const types = (count: number, word = 'sliding_attention') => Array.from({ length: count }, () => word);
  const bad: [Record<string, unknown>, string][] = [
    [{ sliding_window: null, layer_types: types(6) }, 'sliding_window'],
    [{ sliding_window: 16, layer_types: types(5) }, 'layer_types'],
    [{ sliding_window: 16, layer_types: types(6, 'linear_attention') }, 'layer_types'],
    [{ sliding_window: -1 }, 'sliding_window'],
  ];
  for (const [more, field] of bad) expect(() => readModel(as('Gemma2ForCausalLM', more))).toThrow(field);
});

test('the text part of a multimodal Gemma 3 is found under either spelling of its tensors', () => {
  const { architectures: _, ...text } = tiny;
  const config = { architectures: ['Gemma3ForConditionalGeneration'], text_config: text, torch_dtype: 'bfloat16' };
  for (const prefix of ['language_model.model.', 'model.language_model.']) {
    const { features } = readModel(config, (name) => name.startsWith(prefix));
    expect(features.names.layers).toBe(`${prefix}layers.`);
    // the checkpoint's number type is written outside: sqrt(32) rounded to bf16
    expect(features.embeddingScale).toBe(5.65625);
  }
});

test('a published Gemma 3 configuration, with most of its text part unsaid, is read', () => {
  const { features } = readModel({
    architectures: ['Gemma3ForConditionalGeneration'],
    text_config: {
      hidden_size: 2560,
      intermediate_size: 10_240,
      num_hidden_layers: 34,
      rope_scaling: { factor: 8, rope_type: 'linear' },
      sliding_window: 1024,
    },
    torch_dtype: 'bfloat16',
  });
  expect(features).toMatchObject({ vocabSize: 262_208, maxPositions: 131_072, tiedEmbeddings: true, embeddingScale: 50.5 });
  expect(features.layers[0].attention).toMatchObject({
    numHeads: 8,
    numKvHeads: 4,
    headDim: 256,
    window: 1024,
    rope: { theta: 10_000, scaling: { kind: 'none' } },
  });
  expect(features.layers[5].attention).toMatchObject({
    window: 0,
    scale: 1 / 16,
    rope: { theta: 1_000_000, scaling: { kind: 'linear', factor: 8 } },
  });
});

test('a stretched context is as long as its scaling says', () => {
  const length = (more: Record<string, unknown>) => readModel({ ...tiny, ...more }).features.maxPositions;
  expect(length({})).toBe(128);
  expect(length({ rope_scaling: { type: 'linear', factor: 4 } })).toBe(512);
  expect(length({ rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 64 } })).toBe(256);
  expect(length({ rope_scaling: { type: 'dynamic', factor: 4 } })).toBe(128);
});

test('activations are as exact as the weights and the flags ask for', () => {
  expect(activationFor('f32', 64, 'auto', 'auto')).toBe('f32');
  expect(activationFor('f16', 64, 'auto', 'auto')).toBe('f32');
  expect(activationFor('bf16', 64, 'auto', 'auto')).toBe('bf16');
  expect(activationFor('bf16', 64, 'float32', 'auto')).toBe('f32');
  expect(activationFor('q8_0', 64, 'auto', 'auto')).toBe('int8-group32');
  expect(activationFor('q8_0', 64, 'auto', 'float')).toBe('f32');
  expect(activationFor('q8_0', 64, 'auto', 'int8-token')).toBe('int8-token');
  expect(activationFor('bf16', 64, 'auto', 'int8-token')).toBe('bf16');
});

describe('configurations as published', () => {
  const phi4Mini = {
    architectures: ['Phi3ForCausalLM'],
    hidden_size: 3072,
    intermediate_size: 8192,
    num_hidden_layers: 32,
    num_attention_heads: 24,
    num_key_value_heads: 8,
    max_position_embeddings: 131_072,
    original_max_position_embeddings: 4096,
    partial_rotary_factor: 0.75,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000,
    rope_scaling: { type: 'longrope', short_factor: Array(48).fill(1), long_factor: Array(48).fill(8) },
    sliding_window: 262_144,
    tie_word_embeddings: true,
    vocab_size: 200_064,
  };

  test('Phi-4-mini rotates 96 of 128 elements and chooses its factors by the context that will be run', () => {
    const model = readModel(phi4Mini);
    expect(model.features.layers[0].attention).toMatchObject({ headDim: 128, window: 0, qkvLayout: 'fused', rope: { rotaryDim: 96 } });
    const secondFrequency = (contextLength?: number) => {
      const bf16 = { formatOf: () => 'bf16' as const, activationFor: () => 'bf16' as const };
      const options = contextLength === undefined ? bf16 : { ...bf16, contextLength };
      return model.build(options, { from: 0, to: 1 }).constants[0].data[1];
    };
    expect(secondFrequency(4096) / secondFrequency(4097)).toBeCloseTo(8, 5);
    expect(secondFrequency()).toBe(secondFrequency(131_072));
  });

  test('Falcon 7B, with few fields said, has one KV head and one norm for attention and MLP', () => {
    const config = {
      architectures: ['FalconForCausalLM'],
      hidden_size: 4544,
      n_layer: 32,
      n_head: 71,
      vocab_size: 65_024,
      multi_query: true,
      alibi: false,
    };
    const { features } = readModel(config);
    expect(features).toMatchObject({ parallel: 'one-norm', tiedEmbeddings: true, normEpsilon: 1e-5 });
    expect(features.layers[0]).toMatchObject({
      attention: { numHeads: 71, numKvHeads: 1, headDim: 64 },
      mlp: { intermediateSize: 18_176, gate: 'none' },
    });
  });

  test('Pythia rotates a quarter of each head, says it in its own words', () => {
    const config = {
      architectures: ['GPTNeoXForCausalLM'],
      hidden_act: 'gelu',
      hidden_size: 512,
      intermediate_size: 2048,
      layer_norm_eps: 1e-5,
      max_position_embeddings: 2048,
      num_attention_heads: 8,
      num_hidden_layers: 6,
      rotary_emb_base: 20_000,
      rotary_pct: 0.25,
      tie_word_embeddings: false,
      use_parallel_residual: true,
      vocab_size: 50_304,
    };
    const { features } = readModel(config, (name) => name === 'embed_out.weight');
    expect(features.layers[0].attention.rope).toMatchObject({ theta: 20_000, rotaryDim: 16 });
    expect(features.names.output).toBe('embed_out');
  });

  test('GPT-2 and BLOOM are found under the names that their first checkpoints have, and under those saved later', () => {
    const gpt2 = { architectures: ['GPT2LMHeadModel'], n_embd: 768, n_head: 12, n_layer: 12, n_positions: 1024, vocab_size: 50_257 };
    const bloom = { architectures: ['BloomForCausalLM'], n_embed: 1024, n_head: 16, n_layer: 24, seq_length: 2048, vocab_size: 250_880 };
    expect(readModel(gpt2, (name) => name === 'wte.weight').features).toMatchObject({
      learnedPositions: 1024,
      names: { embedding: 'wte', layers: 'h.' },
    });
    expect(readModel(gpt2).features.names.layers).toBe('transformer.h.');
    expect(readModel(bloom, (name) => name === 'word_embeddings.weight').features.names.finalNorm).toBe('ln_f');
    expect(readModel(bloom).features).toMatchObject({ maxPositions: 2048, names: { finalNorm: 'transformer.ln_f' } });
  });

  test('what cannot be computed is refused by field', () => {
    expect(() => readModel(as('BaichuanForCausalLM', { vocab_size: 125_696 }))).toThrow('vocab_size');
    expect(() => readModel(as('BloomForCausalLM', { apply_residual_connection_post_layernorm: true }))).toThrow('apply_residual');
    expect(() => readModel(as('LlamaForCausalLM', { hidden_act: 'relu' }))).toThrow('hidden_act');
    expect(readModel(as('GPTNeoXForCausalLM', { hidden_act: 'relu' })).features.layers[0].mlp.activation).toBe('relu');
    expect(() => readModel(as('ChatGLMModel', { add_bias_linear: true }))).toThrow('add_bias_linear');
    expect(() => readModel(as('SmolLM3ForCausalLM', { no_rope_layers: [1] }))).toThrow('no_rope_layers');
  });
});

test('slopes of ALiBi are powers of two for 8 heads, with those of 16 between them beyond', () => {
  expect([...alibiSlopes(8)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((i) => 2 ** -i));
  expect([...alibiSlopes(10)].slice(8)).toEqual([2 ** -0.5, 2 ** -1.5].map(Math.fround));
});

test.each([
  ['Glm4MoeForCausalLM', {}],
  ['DeepseekV2ForCausalLM', { topk_method: 'group_limited_greedy', q_lora_rank: null }],
])('groups of experts of %s that cannot hold a choice are refused by the field', (architecture, own) => {
  const groups = (more: Record<string, unknown>) => () =>
    readModel(as(architecture, { ...own, n_routed_experts: 8, num_experts_per_tok: 3, n_group: 4, topk_group: 2, ...more }));
  expect(groups({})).not.toThrow();
  for (const [field, more] of [
    ['topk_group', { topk_group: 1 }],
    ['topk_group', { num_experts_per_tok: 8 }],
    ['n_group', { n_routed_experts: 255 }],
    ['n_group', { n_group: 3 }],
    ['n_group', { n_group: 8, topk_group: 8 }],
    ['n_group', { n_group: 40 }],
  ] as const) {
    expect(groups(more), JSON.stringify(more)).toThrow(
      expect.objectContaining({ code: 'MODEL_CONFIG_INVALID', message: expect.stringContaining(field) }),
    );
  }
});
