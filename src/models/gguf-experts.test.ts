import { expect, test } from 'vitest';
import { ggufToHf, readModel } from './index.ts';

/** Metadata of a tiny file of an architecture. */
function contents(architecture: string, fields: Readonly<Record<string, number>>) {
  const common = { embedding_length: 64, block_count: 2, feed_forward_length: 96, context_length: 128, 'attention.head_count': 4 };
  const entries = Object.entries({ ...common, ...fields }).map(([key, value]) => [`${architecture}.${key}`, value] as const);
  return {
    metadata: new Map<string, unknown>([['general.architecture', architecture], ...entries]),
    tensorShape: (name: string) => (name === 'token_embd.weight' ? [300, 64] : undefined),
    readVector: () => undefined,
  };
}

test('a llama file with experts is Mixtral, one without is Llama', () => {
  const experts = ggufToHf(contents('llama', { expert_count: 8, expert_used_count: 2 }));
  const { family, features } = readModel(experts.config);
  expect(family.name).toBe('mixtral');
  expect(features.layers[0].experts).toMatchObject({ numExperts: 8, expertsPerToken: 2, intermediateSize: 96 });
  expect(readModel(ggufToHf(contents('llama', {})).config).family.name).toBe('llama');
});

test("experts in a tensor each, as Mixtral's first files had them, are read as such", () => {
  const { translate, config } = ggufToHf(contents('llama', { expert_count: 8, expert_used_count: 2 }));
  const names = new Set([0, 1].map((e) => translate(`blk.0.ffn_down.${e}.weight`)!.name));
  expect([...names]).toEqual(['model.layers.0.block_sparse_moe.experts.0.w2.weight', 'model.layers.0.block_sparse_moe.experts.1.w2.weight']);
  expect(readModel(config, (name) => names.has(name)).features.layers[0].experts?.layout).toBe('each');
  expect(translate('blk.1.ffn_gate_exps.weight')?.name).toBe('model.layers.1.block_sparse_moe.experts.w1.weight');
});

test('YaRN of a gpt-oss file is not rounded to whole dimensions, and its layers slide in turn', () => {
  const file = contents('gpt-oss', { expert_count: 4, expert_used_count: 2, 'rope.scaling.factor': 32, 'attention.sliding_window': 16 });
  file.metadata.set('gpt-oss.rope.scaling.type', 'yarn').set('gpt-oss.rope.scaling.original_context_length', 64);
  const { layers } = readModel(ggufToHf(file).config).features;
  expect(layers.map(({ attention }) => attention.window)).toEqual([16, 0]);
  expect(layers[0].attention.rope?.scaling).toMatchObject({ kind: 'yarn', truncate: false });
});

test('more experts for a token than there are is refused by the name of the field', () => {
  const { config } = ggufToHf(contents('qwen3moe', { expert_count: 4, expert_used_count: 5, expert_feed_forward_length: 32 }));
  expect(() => readModel(config)).toThrow(
    expect.objectContaining({ code: 'MODEL_CONFIG_INVALID', message: expect.stringContaining('num_experts_per_tok') }),
  );
});
