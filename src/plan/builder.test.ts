import { expect, test } from 'vitest';
import { PlanBuilder } from './builder.ts';
import type { WeightFormat } from './plan.ts';

const builderOf = (formatOf: (tensor: string) => WeightFormat = () => 'bf16') =>
  new PlanBuilder({ formatOf, activationFor: (format) => (format === 'q8_0' ? 'int8-group32' : 'bf16') });

const qkv = [
  { name: 'q', tensor: 'q.weight', rows: 8, bias: 'q.bias' },
  { name: 'k', tensor: 'k.weight', rows: 4, bias: 'k.bias' },
];

test('linears of one format become one linear with views of its output', () => {
  const builder = builderOf();
  const x = builder.embeddings(32);
  const [q, k] = builder.linears('qk', x, qkv);
  const plan = builder.build('plan', { q, k });
  expect(plan.nodes.map(({ op }) => op)).toEqual(['linear']);
  expect(plan.weights[0]).toMatchObject({
    name: 'qk.weight',
    shape: [12, 32],
    format: 'bf16',
    parts: [{ tensor: 'q.weight' }, { tensor: 'k.weight' }],
  });
  expect(plan.weights[1]).toMatchObject({
    shape: [12],
    format: 'f32',
    parts: [
      { tensor: 'q.bias', shape: [8] },
      { tensor: 'k.bias', shape: [4] },
    ],
  });
  expect([q.view, k.view]).toEqual([
    { of: plan.nodes[0].outputs[0], offset: 0 },
    { of: plan.nodes[0].outputs[0], offset: 8 },
  ]);
});

test('linears of several formats stay apart, each with its own activation', () => {
  const builder = builderOf((tensor) => (tensor.startsWith('k') ? 'q8_0' : 'f16'));
  const [q, k] = builder.linears('qk', builder.embeddings(32), qkv);
  const plan = builder.build('plan', { q, k });
  expect(plan.nodes.map(({ attrs }) => attrs)).toEqual([{ activation: 'bf16' }, { activation: 'int8-group32' }]);
});

test('linears of which only some have a bias stay apart', () => {
  const builder = builderOf();
  const [{ bias: _, ...q }, k] = qkv;
  builder.linears('qk', builder.embeddings(32), [q, k]);
  expect(builder.build('plan', {}).nodes.map(({ weights }) => weights.map((id) => id !== null))).toEqual([
    [true, false],
    [true, true],
  ]);
});

test('a weight or constant of one name is one, so tied embeddings are held once', () => {
  const builder = builderOf();
  expect(builder.matrix('table', 9, 4)).toBe(builder.matrix('table', 9, 4));
  expect(builder.constant('f', new Float32Array(2))).toBe(builder.constant('f', new Float32Array(2)));
});

test('vectors are f32 whatever the format of matrices', () => {
  expect(builderOf(() => 'q8_0').vector('norm', 8).format).toBe('f32');
});

test('a view of a view is a view of the value itself', () => {
  const builder = builderOf();
  const x = builder.embeddings(32);
  const inner = builder.view('inner', builder.view('outer', x, 8, 16), 4, 8);
  expect(inner.view).toEqual({ of: x.id, offset: 12 });
});

test('a plan that breaks a rule is not built', () => {
  const builder = builderOf();
  const x = builder.embeddings(8);
  builder.emit('add', 'sum', { inputs: [x, x], outputs: [builder.value('out', 'tokens', 9)], attrs: {} });
  expect(() => builder.build('plan', {})).toThrow(expect.objectContaining({ code: 'PLAN_INVALID' }));
});
