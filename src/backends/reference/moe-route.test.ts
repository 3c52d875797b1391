import { expect, test } from 'vitest';
import { compile, plainBatch } from '../../../test/conformance/single-op.ts';
import { singleOpPlan } from '../../../test/fixtures/decoder.ts';
import { normals } from '../../../test/fixtures/weights.ts';
import type { MoeRouteAttrs } from '../../plan/ops/moe-route.ts';
import { createDummySource } from '../../weights/dummy-source.ts';
import { ReferenceBackend } from './reference-backend.ts';

const plain: MoeRouteAttrs = { score: 'softmax', normalise: 'sum', groups: 1, keptGroups: 1, groupScore: 'max', scale: 1 };

async function route(rows: Float32Array, experts: number, slots: number, attrs: MoeRouteAttrs): Promise<{ ids: Int32Array; weights: Float32Array }> {
  const plan = singleOpPlan(experts, { format: 'f32', activation: 'f32' }, (builder, logits) => {
    const outputs = [builder.value('ids', 'tokens', slots, 'i32'), builder.value('weights', 'tokens', slots)];
    builder.emit('moe-route', 'route', { inputs: [logits], outputs, attrs });
    return { ids: outputs[0], weights: outputs[1] };
  });
  const numRows = rows.length / experts;
  const { run } = await compile(new ReferenceBackend(), plan, numRows);
  const { ids, weights } = await run(rows, plainBatch(numRows));
  return { ids: new Int32Array(ids.buffer, ids.byteOffset, ids.length), weights };
}

test('softmax routers share among the chosen or among all, in f64 to seven digits', async () => {
  const [experts, slots, numRows] = [9, 3, 50];
  const rows = normals(1, experts * numRows, 2);
  for (const normalise of ['sum', 'none'] as const) {
    const { ids, weights } = await route(rows, experts, slots, { ...plain, normalise, scale: 1.5 });
    for (let row = 0; row < numRows; row++) {
      const logits = [...rows.subarray(row * experts, (row + 1) * experts)];
      const best = logits
        .map((_, e) => e)
        .sort((a, b) => logits[b] - logits[a])
        .slice(0, slots);
      expect([...ids.subarray(row * slots, (row + 1) * slots)]).toEqual(best);
      const among = normalise === 'sum' ? best : logits.map((_, e) => e);
      const total = among.reduce((sum, e) => sum + Math.exp(logits[e]), 0);
      best.forEach((e, slot) => {
        expect(weights[row * slots + slot] / ((1.5 * Math.exp(logits[e])) / total)).toBeCloseTo(1, 6);
      });
    }
  }
});

test('ties go to the lower id, and a NaN comes last but shows in the weights when it is chosen', async () => {
  expect([...(await route(Float32Array.of(1, 3, 3, 3), 4, 2, plain)).ids]).toEqual([1, 2]);
  const broken = await route(Float32Array.of(NaN, -1, -2, -3), 4, 3, plain);
  expect([...broken.ids]).toEqual([1, 2, 3]);
  const all = await route(Float32Array.of(NaN, NaN, NaN, NaN), 4, 2, { ...plain, score: 'sigmoid' });
  expect([...all.ids]).toEqual([0, 1]);
  expect([...all.weights]).toEqual([NaN, NaN]);
});

test('groups are kept by their best expert or by their best two', async () => {
  // groups: [5, -9], [3, 3], [2, 2.5]
  const logits = Float32Array.of(5, -9, 3, 3, 2, 2.5);
  const grouped = { ...plain, score: 'sigmoid', groups: 3, keptGroups: 1 } as const;
  expect([...(await route(logits, 6, 2, { ...grouped, groupScore: 'max' })).ids]).toEqual([0, 1]);
  expect([...(await route(logits, 6, 2, { ...grouped, groupScore: 'top2' })).ids]).toEqual([2, 3]);
});

test('sigmoids that are all 0 give weights of 0, not NaN', async () => {
  const { weights } = await route(Float32Array.of(-200, -300, -400), 3, 2, { ...plain, score: 'sigmoid' });
  expect([...weights]).toEqual([0, 0]);
});

test('a router refuses more slots than it may choose from', async () => {
  await expect(route(new Float32Array(8), 8, 5, { ...plain, groups: 4, keptGroups: 2 })).rejects.toMatchObject({ code: 'PLAN_INVALID' });
  await expect(route(new Float32Array(8), 8, 2, { ...plain, groups: 3 })).rejects.toMatchObject({ code: 'PLAN_INVALID' });
});

test('random weights of experts are made entry by entry, all different', () => {
  const plan = singleOpPlan(8, { format: 'f32', activation: 'f32' }, (builder, x) => {
    const ids = builder.value('ids', 'tokens', 1, 'i32');
    const weights = builder.value('weights', 'tokens', 1);
    builder.emit('moe-route', 'route', { inputs: [builder.view('logits', x, 0, 2)], outputs: [ids, weights], attrs: plain });
    const parts = [0, 1].map((index) => ({ tensor: 'w', shape: [2, 4, 8], index }));
    const [out] = builder.expertLinear('e', x, ids, builder.expertMatrices('w', [2, 4, 8], parts), null, [['out', 4]]);
    return { out };
  });
  const source = createDummySource(plan);
  const stored = source.find('w')!;
  const entry = (offset: number) => Buffer.from(source.read({ ...stored, shape: [4, 8], offset, sizeBytes: 128 }));
  expect(stored.sizeBytes).toBe(256);
  expect(entry(0).equals(entry(128))).toBe(false);
});
