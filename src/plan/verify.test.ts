import { expect, test } from 'vitest';
import { decoderPlan } from '../../test/fixtures/decoder.ts';
import { PlanBuilder } from './builder.ts';
import type { OpAttrs, OpName } from './ops/index.ts';
import type { Plan, Value, Weight } from './plan.ts';
import { verifyPlan } from './verify.ts';

const complaintOf = (plan: Plan): string => {
  try {
    verifyPlan(plan);
  } catch (thrown) {
    expect(thrown).toMatchObject({ code: 'PLAN_INVALID' });
    return (thrown as Error).message;
  }
  return 'no complaint';
};

/** A plan with one value broken: `change` gets deep copies. */
function broken(change: (plan: { -readonly [K in keyof Plan]: Plan[K] } & { nodes: Plan['nodes'][number][] }) => void): string {
  const plan = structuredClone(decoderPlan()) as Parameters<typeof change>[0];
  change(plan);
  return complaintOf(plan);
}

test('a legal plan passes', () => {
  expect(complaintOf(decoderPlan({ window: 20, bias: true, qkNorm: true, sinks: true, logitSoftCap: 5 }))).toBe('no complaint');
});

test('values must be written once, before they are read', () => {
  expect(broken((plan) => plan.nodes.shift())).toContain('reads embedded before it is written');
  expect(broken((plan) => plan.nodes.push(plan.nodes[0]))).toContain('writes embedded a second time');
  expect(broken((plan) => plan.nodes.pop())).toContain('output logits is never written');
});

test('ids must exist and the plan must have an input', () => {
  expect(broken((plan) => Object.assign(plan.nodes[1], { inputs: [999] }))).toContain('names a value that does not exist');
  expect(broken((plan) => Object.assign(plan, { input: { kind: 'tokenIds', value: -1 } }))).toContain('the plan has no input');
});

test('a view must lie inside its value', () => {
  const view = decoderPlan().values.findIndex((value) => value.view !== undefined);
  const outside = broken((plan) => Object.assign(plan.values[view], { view: { ...plan.values[view].view, offset: 1000 } }));
  expect(outside).toContain('lies outside its value');
});

test('all complaints are told at once', () => {
  const message = broken((plan) => {
    plan.nodes.shift();
    plan.nodes.pop();
  });
  expect(message).toMatch(/before it is written.*never written/s);
});

interface Illegal<Name extends OpName = OpName> {
  op: Name;
  inputs: Value[];
  outputs: Value[];
  weights?: (Weight | null)[];
  frequencies?: number;
  attrs: OpAttrs[Name];
  complaint: string;
}

function complaintAbout({ op, inputs, outputs, weights = [], frequencies, attrs }: Illegal, builder: PlanBuilder): string {
  const constants = frequencies === undefined ? [] : [builder.constant('f', new Float32Array(frequencies))];
  builder.emit(op, 'node', { inputs, outputs, weights, constants, attrs });
  try {
    builder.build('plan', {});
  } catch (thrown) {
    return (thrown as Error).message;
  }
  return 'no complaint';
}

const normAttrs = { epsilon: 1e-5, weightOffset: 0, groupWidth: 8 };
const ropeAttrs = { headDim: 4, rotaryDim: 4, style: 'half', magnitude: 1 } as const;
const attentionAttrs = { group: 0, layer: 0, numHeads: 2, headDim: 4, scale: 1, softCap: 0, window: 0 };

/** Each rule of each op, broken once. `x` is the input `[tokens, 8]`. */
const illegal: ((b: PlanBuilder, x: Value, value: (width: number, axis?: 'tokens' | 'logits') => Value) => Illegal)[] = [
  (_, x, value) => ({ op: 'add', inputs: [x], outputs: [value(8)], attrs: {}, complaint: 'takes 2 inputs, not 1' }),
  (_, x, value) => ({ op: 'add', inputs: [x, x], outputs: [value(9)], attrs: {}, complaint: 'has width 8' }),
  (_, x, value) => ({ op: 'add', inputs: [x, x], outputs: [value(8, 'logits')], attrs: {}, complaint: 'is per tokens' }),
  (_, x, value) => ({ op: 'scale', inputs: [x], outputs: [value(7)], attrs: { factor: 2 }, complaint: 'has width 8' }),
  (_, x, value) => ({ op: 'soft-cap', inputs: [x], outputs: [value(8)], attrs: { cap: 0 }, complaint: 'cap must be positive, not 0' }),
  (_, x, value) => ({ op: 'gated-activation', inputs: [x, x], outputs: [value(4)], attrs: { function: 'silu' }, complaint: 'has width 8' }),
  (_, x, value) => ({ op: 'select-rows', inputs: [x], outputs: [value(8)], attrs: {}, complaint: 'goes from axis tokens to axis logits' }),
  (_, x, value) => ({ op: 'select-rows', inputs: [x], outputs: [value(4, 'logits')], attrs: {}, complaint: 'width 8 became 4' }),
  (b, x, value) => ({
    op: 'embedding',
    inputs: [x],
    outputs: [value(4)],
    weights: [b.matrix('w', 9, 4)],
    attrs: { scale: 1 },
    complaint: 'ids must be i32',
  }),
  (b, x, value) => ({
    op: 'embedding',
    inputs: [x],
    outputs: [value(4)],
    weights: [b.matrix('w', 9, 5)],
    attrs: { scale: 1 },
    complaint: 'w must be [any, 4]',
  }),
  (b, x, value) => ({
    op: 'linear',
    inputs: [x],
    outputs: [value(3)],
    weights: [b.matrix('w', 3, 7), null],
    attrs: { activation: 'f32' },
    complaint: 'w must be [3, 8], not [3, 7]',
  }),
  (b, x, value) => ({
    op: 'linear',
    inputs: [x],
    outputs: [value(3)],
    weights: [b.matrix('w', 3, 8), b.vector('b', 4)],
    attrs: { activation: 'f32' },
    complaint: 'b must be [3], not [4]',
  }),
  (b, x, value) => ({
    op: 'linear',
    inputs: [x],
    outputs: [value(3)],
    weights: [b.matrix('w', 3, 8), null],
    attrs: { activation: 'int8-group32' },
    complaint: 'needs a width divisible by 32, not 8',
  }),
  (_, x, value) => ({ op: 'rms-norm', inputs: [x], outputs: [value(8)], weights: [], attrs: normAttrs, complaint: 'a weight is missing' }),
  (b, x, value) => ({
    op: 'rms-norm',
    inputs: [x],
    outputs: [value(8)],
    weights: [b.vector('n', 3)],
    attrs: { ...normAttrs, groupWidth: 3 },
    complaint: 'groupWidth 3 does not divide width 8',
  }),
  (b, x, value) => ({
    op: 'add-rms-norm',
    inputs: [x, x],
    outputs: [value(8)],
    weights: [b.vector('n', 8)],
    attrs: normAttrs,
    complaint: 'takes 2 outputs, not 1',
  }),
  (_, x, value) => ({
    op: 'rope',
    inputs: [x],
    outputs: [value(8)],
    frequencies: 3,
    attrs: ropeAttrs,
    complaint: 'constant 0 must have 2 frequencies',
  }),
  (_, x, value) => ({
    op: 'rope',
    inputs: [x],
    outputs: [value(8)],
    frequencies: 3,
    attrs: { ...ropeAttrs, rotaryDim: 6 },
    complaint: 'must be even and at most headDim',
  }),
  (_, x, value) => ({
    op: 'rope',
    inputs: [x],
    outputs: [value(8)],
    frequencies: 2,
    attrs: { ...ropeAttrs, headDim: 5 },
    complaint: 'is not a number of heads of 5',
  }),
  (_, x) => ({ op: 'kv-write', inputs: [x, x], outputs: [], attrs: { group: 3, layer: 0 }, complaint: 'cache group 3 does not exist' }),
  (_, x) => ({ op: 'kv-write', inputs: [x, x], outputs: [], attrs: { group: 0, layer: 2 }, complaint: 'layer 2 is outside cache group g of 2' }),
  (_, x) => ({ op: 'kv-write', inputs: [x, x], outputs: [], attrs: { group: 0, layer: 0 }, complaint: 'K and V must have width 4, not 8' }),
  (_, x, value) => ({
    op: 'rope-kv-write',
    inputs: [x, x, x],
    outputs: [value(8)],
    frequencies: 2,
    attrs: { ...ropeAttrs, group: 0, layer: 0 },
    complaint: 'K and V must have width 4, not 8',
  }),
  (_, x, value) => ({
    op: 'attention',
    inputs: [x],
    outputs: [value(8)],
    attrs: { ...attentionAttrs, group: 5 },
    complaint: 'cache group 5 does not exist',
  }),
  (_, x, value) => ({
    op: 'attention',
    inputs: [x],
    outputs: [value(8)],
    attrs: { ...attentionAttrs, group: 1, window: 0 },
    complaint: 'reads more than its cache group keeps (6)',
  }),
  (_, x, value) => ({
    op: 'attention',
    inputs: [x],
    outputs: [value(8)],
    attrs: { ...attentionAttrs, group: 1, window: 7 },
    complaint: 'reads more than its cache group keeps (6)',
  }),
  (_, x, value) => ({ op: 'all-reduce', inputs: [x], outputs: [value(8, 'logits')], attrs: { peer: 0 }, complaint: 'a collective keeps the axis' }),
  (_, x, value) => ({ op: 'send', inputs: [x], outputs: [value(8)], attrs: { peer: 1 }, complaint: 'peer 1 is outside a world of 1' }),
];

test('every rule of every op is enforced', () => {
  for (const make of illegal) {
    const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
    builder.cacheGroup({ name: 'g', kind: 'full', numLayers: 2, numKvHeads: 1, headDim: 4 });
    builder.cacheGroup({ name: 'w', kind: 'window', window: 6, numLayers: 1, numKvHeads: 1, headDim: 4 });
    const node = make(builder, builder.embeddings(8), (width, axis = 'tokens') => builder.value(`out${width}`, axis, width));
    expect(complaintAbout(node, builder), node.op).toContain(node.complaint);
  }
});
