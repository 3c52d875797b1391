/** Reference ops against numbers from elsewhere: PyTorch in f64, or worked out by hand. What holds for every backend is in test/conformance. */
import { expect, test } from 'vitest';
import { TestRows } from '../../../test/fixtures/rows.ts';
import type { ForwardBatch } from '../backend.ts';
import { activation } from './activation.ts';
import { attention } from './attention.ts';
import { ReferenceCache } from './cache.ts';
import { erf, gatedActivation } from './gated-activation.ts';
import type { Matrix } from './kernel.ts';
import { layerNorm } from './layer-norm.ts';
import { roundActivation } from './linear.ts';
import { positionEmbedding } from './position-embedding.ts';
import { rmsNorm } from './rms-norm.ts';
import { rope } from './rope.ts';

const matrix = (values: number[], width: number): Matrix => {
  const data = Float32Array.from(values);
  return { data, ints: new Int32Array(data.buffer), offset: 0, stride: width, width };
};

const step = { batch: {} as ForwardBatch, cache: null };

function close(actual: Iterable<number>, expected: number[]): void {
  expect([...actual].map((x, i) => (Math.abs(x - expected[i]) < 1e-6 * Math.max(1, Math.abs(expected[i])) ? expected[i] : x))).toEqual(expected);
}

test.each([
  ['silu', [-0.014835739, -0.18964545, -0.268941421, -0.047502081, 0, 0.172332755, 1.437409049, 3.92805516]],
  ['gelu', [-6e-9, -0.015524163, -0.158655254, -0.046017216, 0, 0.185373427, 1.624238713, 3.999873315]],
  ['gelu-tanh', [0, -0.015084266, -0.158808009, -0.046017249, 0, 0.185370924, 1.624105896, 3.999929754]],
] as const)('%s is what PyTorch computes', (name, expected) => {
  const gate = matrix([-6, -2.5, -1, -0.1, 0, 0.3, 1.7, 4], 8);
  const [up, out] = [matrix(Array(8).fill(2), 8), matrix(Array(8).fill(0), 8)];
  gatedActivation({ inputs: [gate, up], outputs: [out], weights: [], constants: [], attrs: { function: name } }, 1, step);
  close(
    out.data.map((x) => x / 2),
    [...expected],
  );
});

test('an activation without a gate is the same functions, and relu', () => {
  const x = matrix([-6, -1, 0, 1.7], 4);
  const out = matrix(Array(4).fill(9), 4);
  const apply = (name: 'silu' | 'gelu' | 'gelu-tanh' | 'relu') => {
    activation({ inputs: [x], outputs: [out], weights: [], constants: [], attrs: { function: name } }, 1, step);
    return out.data;
  };
  close(apply('silu'), [-0.014835739, -0.268941421, 0, 1.437409049]);
  close(apply('gelu'), [-6e-9, -0.158655254, 0, 1.624238713]);
  close(apply('gelu-tanh'), [0, -0.158808009, 0, 1.624105896]);
  expect([...apply('relu')]).toEqual([0, 0, 0, Math.fround(1.7)]);
});

const LAYER_NORM = [-0.973328015, -0.297770686, -1.0, -1.372213358];

test('layer-norm is what PyTorch computes', () => {
  const out = matrix(Array(4).fill(0), 4);
  const weights = [Float32Array.of(1, 2, 0.5, -1), Float32Array.of(0, 1, -1, 0.25)];
  layerNorm({ inputs: [matrix([1, 2, 4, 9], 4)], outputs: [out], weights, constants: [], attrs: { epsilon: 1e-5 } }, 1, step);
  close(out.data, LAYER_NORM);
  layerNorm({ inputs: [matrix([1, 2, 4, 9], 4)], outputs: [out], weights: [weights[0], null], constants: [], attrs: { epsilon: 1e-5 } }, 1, step);
  close(
    out.data.map((y, i) => y + weights[1][i]),
    LAYER_NORM,
  );
});

test('position-embedding adds the row of each position, the last row beyond the table', () => {
  const batch = { ...step.batch, numTokens: 3, positions: Int32Array.of(1, 0, 7) };
  const out = matrix(Array(6).fill(0), 2);
  const call = {
    inputs: [matrix([1, 2, 3, 4, 5, 6], 2)],
    outputs: [out],
    weights: [Float32Array.of(10, 20, 30, 40)],
    constants: [],
    attrs: { axis: 0 },
  };
  positionEmbedding(call, 3, { batch, cache: null });
  expect([...out.data]).toEqual([31, 42, 13, 24, 35, 46]);
});

test('position-embedding looks token types up along the second axis of positions', () => {
  const batch = { ...step.batch, numTokens: 2, positions: Int32Array.of(0, 1, 1, 0) };
  const out = matrix(Array(2).fill(0), 1);
  const call = { inputs: [matrix([1, 2], 1)], outputs: [out], weights: [Float32Array.of(10, 20)], constants: [], attrs: { axis: 1 } };
  positionEmbedding(call, 2, { batch, cache: null });
  expect([...out.data]).toEqual([21, 12]);
});

test('erf is right near zero, where its two forms meet, and far out', () => {
  // Abramowitz and Stegun, table 7.1
  const known: [number, number][] = [
    [0.5, 0.5204998778],
    [1, 0.8427007929],
    [2, 0.995322265],
    [2.999, 0.9999777707],
    [3.001, 0.999978047],
    [7, 1],
  ];
  for (const [x, y] of known) {
    expect(Math.abs(erf(x) - y)).toBeLessThan(2e-7);
    expect(erf(-x)).toBe(-erf(x));
  }
  expect(Math.abs(erf(3) - erf(3 - 1e-12))).toBeLessThan(1e-13);
});

test('rms-norm is what PyTorch computes', () => {
  const out = matrix(Array(8).fill(0), 4);
  const weights = [Float32Array.of(0.5, 1, 2, -1)];
  const attrs = { epsilon: 1e-5, weightOffset: 0, groupWidth: 4 };
  rmsNorm({ inputs: [matrix([1, -2, 3, 0.5, 0, 0, 4, -1], 4)], outputs: [out], weights, constants: [], attrs }, 2, step);
  close(out.data, [0.2649061, -1.059624398, 3.178873195, -0.2649061, 0, 0, 3.880565435, 0.485070679]);
});

test('rope turns pairs by position times frequency, in either layout, and passes the rest through', () => {
  const [cos, sin] = [Math.cos(3), Math.sin(3)];
  const [cos2, sin2] = [Math.cos(0.75), Math.sin(0.75)];
  const run = (style: 'half' | 'interleaved') => {
    const out = matrix(Array(6).fill(0), 6);
    const call = { inputs: [matrix([1, 2, 3, 4, 5, 6], 6)], outputs: [out], weights: [], constants: [Float32Array.of(1, 0.25)] };
    const batch = { positions: Int32Array.of(3) } as ForwardBatch;
    rope({ ...call, attrs: { headDim: 6, rotaryDim: 4, style, magnitude: 1 } }, 1, { batch, cache: null });
    return out.data;
  };
  close(run('half'), [cos - 3 * sin, 2 * cos2 - 4 * sin2, 3 * cos + sin, 4 * cos2 + 2 * sin2, 5, 6]);
  close(run('interleaved'), [cos - 2 * sin, 2 * cos + sin, 3 * cos2 - 4 * sin2, 4 * cos2 + 3 * sin2, 5, 6]);
});

test.each([
  ['plain', {}, [1, 2, 1, 2, 1.857232037, -0.57169611, 1.879340715, -0.638022144, 0.625497309, 0.06231426, -0.451988459, 1.604898622]],
  [
    'with a soft cap',
    { softCap: 0.5 },
    [1, 2, 1, 2, 1.870967879, -0.612903637, 1.88921895, -0.667656849, 0.48334142, 0.261222785, -0.451205805, 1.601416165],
  ],
  [
    'with a window',
    { window: 2 },
    [1, 2, 1, 2, 1.857232037, -0.57169611, 1.879340715, -0.638022144, 0.455170117, -0.818962646, -1.299438763, 1.374298453],
  ],
  [
    'with sinks',
    { sinks: [0.4, -1] },
    [
      0.417024546, 0.834049092, 0.710949503, 1.421899005, 1.002605964, -0.308623757, 1.620489481, -0.550144082, 0.425879568, 0.042427633,
      -0.403471314, 1.432626305,
    ],
  ],
] as [string, { softCap?: number; window?: number; sinks?: number[] }, number[]][])(
  'attention is what PyTorch computes: %s',
  (_, options, expected) => {
    const { softCap = 0, window = 0, sinks } = options;
    const rows = new TestRows([{ name: 'g', kind: 'full', numLayers: 1, numKvHeads: 1, headDim: 2 }], { blockSize: 2 });
    const batch = rows.batch([{ row: 0, tokenIds: [0, 0, 0] }]);
    const cache = new ReferenceCache(rows.spec);
    const [k, v] = [Float32Array.of(0.3, 0.5, -1, 0.25, 0.75, -0.5), Float32Array.of(1, 2, 3, -4, -5, 6)];
    for (let token = 0; token < 3; token++) cache.write(0, 0, batch.slotMapping[token], k, 2 * token, v, 2 * token);
    const q = matrix([0.1, 0.2, 1, -1, 0.5, -0.3, 0.2, 0.9, -0.7, 0.4, 0.3, 0.3], 4);
    const out = matrix(Array(12).fill(0), 4);
    const attrs = { group: 0, layer: 0, numHeads: 2, headDim: 2, scale: 0.5, softCap, window };
    const weights = sinks === undefined ? [] : [Float32Array.from(sinks)];
    attention({ inputs: [q], outputs: [out], weights, constants: [], attrs }, 3, { batch, cache });
    close(out.data, expected);
  },
);

test('int8 activations are rounded with ties to even, by group or by row', () => {
  const x = new Float32Array(64);
  x.set([127, 0.5, 1.5, -2.5, 63.4]);
  x.set([254, 1, 3], 32);
  const out = new Float64Array(64);
  roundActivation('int8-group32', x, out);
  expect([...out.subarray(0, 5)]).toEqual([127, 0, 2, -2, 63]);
  expect([...out.subarray(32, 35)]).toEqual([254, 0, 4]);
  roundActivation('int8-token', x, out);
  expect([...out.subarray(0, 5)]).toEqual([128, 0, 2, -2, 64]); // one scale of 2: 63.5 is a tie and goes to 64
});

test('int8 activations: zeros stay zeros, and a NaN or infinity spoils its group alone', () => {
  const x = new Float32Array(64).fill(1);
  x.fill(0, 32);
  const out = new Float64Array(64);
  roundActivation('int8-group32', x, out);
  expect([...out.subarray(32)]).toEqual(Array(32).fill(0));
  x[3] = Infinity;
  roundActivation('int8-group32', x, out);
  expect([...out.subarray(0, 32)].every(Number.isNaN)).toBe(true);
  expect([...out.subarray(32)]).toEqual(Array(32).fill(0));
});

test('bf16 activations are rounded to the nearest, ties to even', () => {
  const out = new Float64Array(3);
  roundActivation('bf16', Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, -1e-40), out);
  expect([...out.subarray(0, 2)]).toEqual([1, 1 + 2 ** -6]);
});
