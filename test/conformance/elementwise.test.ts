import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { PlanBuilder } from '../../src/plan/builder.ts';
import { weightFormats } from '../../src/plan/encode.ts';
import type { Value } from '../../src/plan/plan.ts';
import { singleOpPlan } from '../fixtures/decoder.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, emulatedGpu, F32_ERROR, normalisedError, rowCounts } from './backends.ts';
import { compile, plainBatch } from './single-op.ts';

type Make = (builder: PlanBuilder, x: Value, value: (name: string, width: number, axis?: 'tokens' | 'logits') => Value) => Record<string, Value>;

interface Case {
  name: string;
  width: number;
  make: Make;
  /** Scale of the inputs. */
  size?: number;
  /** Largest normalised error. */
  error?: number;
}

/** Ops of one input and one output, over odd widths. */
const cases: Case[] = [];
for (const width of [1, 5, 16, 31, 33, 100]) {
  for (const weightOffset of [0, 1]) {
    const attrs = { epsilon: 1e-6, weightOffset, groupWidth: width };
    cases.push({
      name: `rms-norm of ${width} with offset ${weightOffset}`,
      width,
      make: (builder, x) => ({ out: builder.map('rms-norm', 'n', x, { weights: [builder.vector('norm', width)], attrs }) }),
    });
  }
  for (const bias of [false, true]) {
    cases.push({
      name: `layer-norm of ${width} ${bias ? 'with' : 'without'} bias`,
      width,
      make(builder, x) {
        const weights = [builder.vector('norm', width), bias ? builder.vector('bias', width) : null];
        return { out: builder.map('layer-norm', 'n', x, { weights, attrs: { epsilon: 1e-5 } }) };
      },
    });
  }
  for (const name of ['silu', 'gelu-tanh', 'gelu', 'relu'] as const) {
    cases.push({
      name: `activation ${name} of ${width}`,
      width,
      size: 4,
      make: (builder, x) => ({ out: builder.map('activation', 'a', x, { attrs: { function: name } }) }),
      error: name === 'relu' ? 1e-30 : 1e-11,
    });
  }
  cases.push(
    { name: `scale of ${width}`, width, make: (builder, x) => ({ out: builder.map('scale', 's', x, { attrs: { factor: 0.3 } }) }), error: 1e-30 },
    { name: `soft-cap of ${width}`, width, size: 40, make: (builder, x) => ({ out: builder.map('soft-cap', 'c', x, { attrs: { cap: 30 } }) }) },
    {
      name: `gather-columns of ${width}`,
      width,
      make: (builder, x) => ({
        out: builder.map('gather-columns', 'g', x, {
          constants: [
            builder.constant(
              'order',
              Float32Array.from({ length: width }, (_, i) => (i * 7) % width),
            ),
          ],
          attrs: {},
        }),
      }),
      error: 1e-30,
    },
    { name: `select-rows of ${width}`, width, make: selectRows, error: 1e-30 },
  );
}
for (const half of [1, 7, 33]) {
  const width = 2 * half;
  cases.push({ name: `add of two views of ${half}`, width, make: twoViews('add', half), error: 1e-30 });
  for (const name of ['silu', 'gelu-tanh', 'gelu'] as const) {
    cases.push({ name: `gated-activation ${name} of ${half}`, width, size: 4, make: twoViews(name, half), error: 1e-11 });
  }
  cases.push({
    name: `add-rms-norm of two views of ${half}`,
    width,
    make(builder, x, value) {
      const [a, b] = [builder.view('a', x, 0, half), builder.view('b', x, half, half)];
      const [sum, normed] = [value('sum', half), value('normed', half)];
      const attrs = { epsilon: 1e-5, weightOffset: 0, groupWidth: half };
      builder.emit('add-rms-norm', 'f', { inputs: [a, b], outputs: [sum, normed], weights: [builder.vector('norm', half)], attrs });
      return { sum, normed };
    },
  });
}
cases.push({
  name: 'layer-norm of a view of 70 around a large mean',
  width: 77,
  make(builder, x) {
    const far = builder.map('layer-norm', 'far', x, {
      weights: [builder.vector('norm', 77), builder.vector('far.bias', 77)],
      attrs: { epsilon: 1e-5 },
    });
    const weights = [builder.vector('norm.view', 70), builder.vector('bias', 70)];
    return { out: builder.map('layer-norm', 'n', builder.view('v', far, 3, 70), { weights, attrs: { epsilon: 1e-5 } }) };
  },
});
cases.push({
  name: 'rms-norm of heads of 6 in a view of 18',
  width: 25,
  make(builder, x) {
    const attrs = { epsilon: 1e-6, weightOffset: 0, groupWidth: 6 };
    return { out: builder.map('rms-norm', 'n', builder.view('v', x, 4, 18), { weights: [builder.vector('norm', 6)], attrs }) };
  },
});
for (const style of ['half', 'interleaved'] as const) {
  for (const [headDim, rotaryDim] of [
    [2, 2],
    [16, 16],
    [16, 8],
    [36, 36],
    [66, 34],
  ]) {
    cases.push({
      name: `rope ${style} of heads of ${headDim}, ${rotaryDim} rotated`,
      width: 3 * headDim,
      make(builder, x) {
        const constants = [
          builder.constant(
            'f',
            Float32Array.from({ length: rotaryDim / 2 }, (_, i) => 10000 ** ((-2 * i) / rotaryDim)),
          ),
        ];
        return { out: builder.map('rope', 'r', x, { constants, attrs: { headDim, rotaryDim, style, magnitude: 1.25 } }) };
      },
    });
  }
}

function selectRows(builder: PlanBuilder, x: Value, value: Parameters<Make>[2]): Record<string, Value> {
  const out = value('out', x.width, 'logits');
  builder.emit('select-rows', 's', { inputs: [x], outputs: [out], attrs: {} });
  return { out };
}

function twoViews(what: 'add' | 'silu' | 'gelu-tanh' | 'gelu', half: number): Make {
  return (builder, x, value) => {
    const inputs = [builder.view('a', x, 0, half), builder.view('b', x, half, half)];
    const out = value('out', half);
    if (what === 'add') builder.emit('add', 'op', { inputs, outputs: [out], attrs: {} });
    else builder.emit('gated-activation', 'op', { inputs, outputs: [out], attrs: { function: what } });
    return { out };
  };
}

const maxRows = Math.max(...rowCounts);
/** Positions of long contexts: angles that are large in f32. */
const positions = Int32Array.from({ length: maxRows }, (_, i) => i * i * 26);

for (const { name, open, takes } of [...(await candidates()), await emulatedGpu()]) {
  describe(name, () => {
    let backend: Backend;
    const reference = new ReferenceBackend();
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(cases)('$name is the reference’s at every number of rows', async ({ width, make, size = 1, error = F32_ERROR }) => {
      const plan = singleOpPlan(width, { format: 'f32', activation: 'f32' }, make);
      const [actual, expected] = await Promise.all([backend, reference].map((b) => compile(b, plan, maxRows)));
      const rows = normals(5, maxRows * width, size);
      const right = await expected.run(rows, plainBatch(maxRows, positions));
      const whole = await actual.run(rows, plainBatch(maxRows, positions));
      for (const [output, value] of Object.entries(right)) expect(normalisedError(whole[output], value), output).toBeLessThan(error);
      for (const numRows of rowCounts) {
        const some = await actual.run(rows, plainBatch(numRows, positions));
        for (const [output, value] of Object.entries(whole)) {
          expect(some[output], `${output}, ${numRows} rows`).toEqual(value.subarray(0, some[output].length));
        }
      }
    });

    test.each((['f32', 'f16', 'bf16', 'q8_0'] as const).filter((format) => takes(format)))(
      'position-embedding adds rows of a %s table exactly, its last beyond the end',
      async (format) => {
        const plan = singleOpPlan(64, { format, activation: 'f32' }, (builder, x) => ({
          out: builder.map('position-embedding', 'p', x, { weights: [builder.matrix('table', 50, 64)], attrs: { axis: 0 } }),
        }));
        const rows = normals(6, 70 * 64);
        const results = await Promise.all(
          [backend, reference].map(async (b) =>
            (await compile(b, plan, 70)).run(
              rows,
              plainBatch(
                70,
                Int32Array.from({ length: 70 }, (_, i) => 69 - i),
              ),
            ),
          ),
        );
        expect(results[0]).toEqual(results[1]);
      },
    );

    test.each(weightFormats.filter((format) => takes(format)))('embedding looks rows of a %s table up exactly', async (format) => {
      const { PlanBuilder } = await import('../../src/plan/builder.ts');
      const builder = new PlanBuilder({ formatOf: () => format, activationFor: () => 'f32' });
      const ids = builder.tokenIds();
      const out = builder.value('out', 'tokens', 256);
      builder.emit('embedding', 'e', { inputs: [ids], outputs: [out], weights: [builder.matrix('table', 41, 256)], attrs: { scale: 7.75 } });
      const plan = builder.build('embedding', { out });
      const tokenIds = Int32Array.from({ length: 70 }, (_, i) => (i * 17) % 41);
      const results = await Promise.all(
        [backend, reference].map(async (b) => {
          const { program } = await compile(b, plan, 70);
          const batch = { ...plainBatch(70), tokenIds };
          return (await b.execute({ entries: [{ program, cache: null, batch }], sampling: null, readOutputs: ['out'] })).outputs.out;
        }),
      );
      expect(results[0]).toEqual(results[1]);
    });
  });
}
