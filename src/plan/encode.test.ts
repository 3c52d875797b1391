import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { decoderPlan, singleOpPlan } from '../../test/fixtures/decoder.ts';
import { ENCODED_PLAN_MAGIC, encodePlan } from './encode.ts';
import { opcodes, ops } from './ops/index.ts';
import { planMemory } from './passes/memory.ts';
import type { Plan } from './plan.ts';

const limits = { maxTokens: 7, maxLogitRows: 3 };
const encode = (plan: Plan) => [...encodePlan(plan, planMemory(plan, limits))];

const bits = (x: number) => new Int32Array(Float32Array.of(x).buffer)[0];

test('a plan of one op is the words that the format says', () => {
  const plan = singleOpPlan(32, { format: 'q8_0', activation: 'int8-group32' }, (builder, x) => ({
    out: builder.linear('l', builder.view('v', x, 0, 32), builder.matrix('w', 5, 32), null),
  }));
  expect(encode(plan)).toEqual([
    ...[ENCODED_PLAN_MAGIC, 2, 3, 1, 0, 1, 0, 1, 0, 1, 1, 1],
    ...[0, 32, 0, -1, 0, 0, 0], // the input, placed first since it is largest: 7 * 32 * 4 = 896 bytes
    ...[0, 32, 0, 0, 0, -1, -1], // the view
    ...[0, 5, 0, -1, 0, 896, 0],
    ...[3, 2, 5, 32, 1],
    ...[opcodes.linear, 1, 1, 1, 2, 2, 0, -1, 0, 1, 2], // inputs [1], outputs [2], weights [0, absent], no constants, activation 2
    2,
  ]);
});

test('constants, floats and words travel as bits and indices', () => {
  const plan = singleOpPlan(4, { format: 'f32', activation: 'f32' }, (builder, x) => {
    const constants = [builder.constant('f', Float32Array.of(1, 0.1))];
    return { out: builder.map('rope', 'r', x, { constants, attrs: { headDim: 4, rotaryDim: 4, style: 'interleaved', magnitude: 1.5 } }) };
  });
  const words = encode(plan);
  expect(words.slice(26, 29)).toEqual([2, bits(1), bits(0.1)]);
  expect(words.slice(29)).toEqual([opcodes.rope, 1, 0, 1, 1, 0, 1, 0, 4, 4, 4, 1, bits(1.5), 1]);
});

test('the same plan gives the same words, and cache groups and outputs come last', () => {
  const plan = decoderPlan({ window: 20 });
  expect(encode(plan)).toEqual(encode(decoderPlan({ window: 20 })));
  expect(encode(plan).slice(-12)).toEqual([0, 0, 1, 2, 16, 1, 20, 1, 2, 16, plan.outputs.logits, plan.outputs.hidden]);
});

test('the native table of ops has the same names and attributes in the same order', () => {
  const header = readFileSync(new URL('../../native/common/ops.h', import.meta.url), 'utf8');
  const rows = [...header.matchAll(/^ {2}X\(\w+, "([^"]*)", "([^"]*)"\)/gm)].map(([, name, attrs]) => [name, attrs]);
  expect(rows).toEqual(Object.entries(ops).map(([name, { attrs }]) => [name, Object.keys(attrs).join(' ')]));
});
