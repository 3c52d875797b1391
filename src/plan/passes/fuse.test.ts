import { expect, test } from 'vitest';
import { bodyPlan, type DecoderOptions, decoderPlan, singleOpPlan } from '../../../test/fixtures/decoder.ts';
import { greedy, TestRows } from '../../../test/fixtures/rows.ts';
import { randomSource } from '../../../test/fixtures/weights.ts';
import { ReferenceBackend } from '../../backends/reference/reference-backend.ts';
import { PlanBuilder } from '../builder.ts';
import type { Plan } from '../plan.ts';
import { fusePlan } from './fuse.ts';

const counts = (plan: Plan) => {
  const found: Record<string, number> = {};
  for (const { op } of plan.nodes) found[op] = (found[op] ?? 0) + 1;
  return found;
};

async function outputsOf(plan: Plan): Promise<unknown> {
  const backend = new ReferenceBackend();
  const program = await backend.compile(plan, randomSource(plan), { maxTokens: 80, maxLogitRows: 8 });
  const rows = new TestRows(plan.cacheGroups);
  const cache = await backend.createCache(rows.spec);
  const results = [];
  for (const length of [40, 1, 9]) {
    const chunks = [0, 1].map((row) => ({ row, tokenIds: Array.from({ length: length - row }, (_, i) => (i * 13 + row) % 97) }));
    const batch = rows.batch(chunks.filter(({ tokenIds }) => tokenIds.length > 0));
    const { outputs, tokenIds } = await backend.execute({
      entries: [{ program, cache, batch }],
      sampling: greedy(batch.numLogitRows),
      readOutputs: Object.keys(plan.outputs),
    });
    results.push(outputs, tokenIds);
  }
  return results;
}

test.each<[string, Partial<DecoderOptions>]>([
  ['a plain decoder', {}],
  ['two cache groups, biases and norms of q and k', { numLayers: 3, window: 20, bias: true, qkNorm: true, attentionSoftCap: 20 }],
  ['bf16', { format: 'bf16', activation: 'bf16' }],
])('a fused plan gives the same bits: %s', async (_, options) => {
  const plan = decoderPlan(options);
  const fused = fusePlan(plan);
  expect(fused.nodes.length).toBeLessThan(plan.nodes.length);
  expect(await outputsOf(fused)).toEqual(await outputsOf(plan));
});

test('every add with a norm and every rope with a write is fused, and the plan that was given stays', () => {
  const plan = decoderPlan({ numLayers: 3 });
  const before = counts(plan);
  const fused = counts(fusePlan(plan));
  expect(fused).toMatchObject({ 'add-rms-norm': 6, 'rope-kv-write': 3, 'rms-norm': 1 });
  expect([fused.add, fused.rope, fused['kv-write']]).toEqual([undefined, undefined, undefined]);
  expect(counts(plan)).toEqual(before);
});

test('a fused plan has nothing more to fuse', () => {
  const fused = fusePlan(bodyPlan());
  expect(fusePlan(fused)).toBe(fused);
});

/** q, k, v from one input; `change` may add readers. */
function ropePlan(change: { readRotatedK?: boolean; readRotatedQEarly?: boolean; otherStyle?: boolean }): Plan {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  builder.cacheGroup({ name: 'g', kind: 'full', numLayers: 1, numKvHeads: 1, headDim: 4 });
  const input = builder.embeddings(12);
  const [q, k, v] = [0, 4, 8].map((offset) => builder.view(`v${offset}`, input, offset, 4));
  const constants = [builder.constant('f', Float32Array.of(1, 0.1))];
  const attrs = { headDim: 4, rotaryDim: 4, style: 'half', magnitude: 1 } as const;
  const rotatedQ = builder.map('rope', 'q', q, { constants, attrs });
  const rotatedK = builder.map('rope', 'k', k, { constants, attrs: change.otherStyle ? { ...attrs, style: 'interleaved' } : attrs });
  const outputs: Parameters<PlanBuilder['build']>[1] = {};
  if (change.readRotatedQEarly) outputs.early = builder.map('scale', 'early', rotatedQ, { attrs: { factor: 2 } });
  builder.emit('kv-write', 'w', { inputs: [rotatedK, v], attrs: { group: 0, layer: 0 } });
  if (change.readRotatedK) outputs.k = rotatedK;
  outputs.out = builder.map('attention', 'a', rotatedQ, {
    attrs: { group: 0, layer: 0, numHeads: 1, headDim: 4, scale: 1, softCap: 0, window: 0 },
  });
  return builder.build('ropes', outputs);
}

test('ropes are fused with their write only where that is legal', () => {
  expect(counts(fusePlan(ropePlan({})))['rope-kv-write']).toBe(1);
  expect(counts(fusePlan(ropePlan({ readRotatedK: true })))['rope-kv-write']).toBeUndefined();
  expect(counts(fusePlan(ropePlan({ readRotatedQEarly: true })))['rope-kv-write']).toBeUndefined();
  expect(counts(fusePlan(ropePlan({ otherStyle: true })))['rope-kv-write']).toBeUndefined();
});

test('an add without a norm, and a norm without an add, stay', () => {
  const plan = singleOpPlan(8, { format: 'f32', activation: 'f32' }, (builder, x) => {
    const weights = [builder.vector('norm', 8)];
    const normed = builder.map('rms-norm', 'n', x, { weights, attrs: { epsilon: 1e-5, weightOffset: 0, groupWidth: 8 } });
    return { out: builder.add('sum', x, normed) };
  });
  expect(fusePlan(plan)).toBe(plan);
});
