import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { weightFormats } from '../../src/plan/encode.ts';
import type { Activation, WeightFormat } from '../../src/plan/plan.ts';
import { weightFormats as definitions } from '../../src/quant/formats/index.ts';
import { singleOpPlan } from '../fixtures/decoder.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, emulatedGpu, F32_ERROR, normalisedError, remembered, rowCounts } from './backends.ts';
import { compile, plainBatch } from './single-op.ts';

const plain: WeightFormat[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'int8_channel'];
/** Those without a kernel of their own: fewer shapes, for each runs all the same code beside the unpacking. */
const unpacked = weightFormats.filter((format) => !plain.includes(format));
const activations: Activation[] = ['f32', 'bf16', 'int8-group32', 'int8-token'];
/** Groups of one width share all code with those of another, and levels that are no integers always meet floats: fewer rows for these. */
function activationsOf(format: WeightFormat): readonly Activation[] {
  if (/^(fp8|nf4)/.test(format)) return ['bf16', 'int8-group32'];
  if (!/^int\d_/.test(format)) return activations;
  return format.endsWith('g128') ? ['f32', 'int8-group32', 'int8-token'] : ['f32', 'int8-group32'];
}
/** [outputs, inputs]: odd ones, one group, beyond one segment and beyond two. */
const shapes = [
  [1, 32],
  [3, 1],
  [17, 33],
  [33, 96],
  [100, 160],
  [7, 1025],
  [19, 2080],
  [130, 1056],
];
/** Whole super-blocks of 256, one segment and beyond. */
const unpackedShapes = [
  [1, 256],
  [70, 1280],
];
const maxRows = Math.max(...rowCounts);
const reference = new ReferenceBackend();
const expected = remembered<Float32Array>();

/** Numbers with a few columns a hundred times the rest, as real activations have, one row of zeros and one of numbers whose inverse is beyond f32. */
function activationRows(k: number): Float32Array {
  const rows = normals(99, maxRows * k);
  for (let i = 0; i < rows.length; i++) if ((i % k) % 37 === 5) rows[i] *= 100;
  rows.fill(0, 4 * k, 5 * k);
  for (let i = 6 * k; i < 7 * k; i++) rows[i] *= 1e-39;
  return rows;
}

function linearPlan(format: WeightFormat, activation: Activation, n: number, k: number) {
  return singleOpPlan(k, { format, activation }, (builder, input) => ({
    out: builder.linear('linear', input, builder.matrix('w', n, k), builder.vector('b', n)),
  }));
}

for (const { name, open, takes } of [...(await candidates({ withDotProducts: true })), await emulatedGpu()]) {
  describe(name, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    for (const format of [...plain, ...unpacked].filter((format) => takes(format))) {
      for (const activation of activationsOf(format).filter((word) => takes(format, word))) {
        test(`linear of ${format} weights with ${activation} activations is the reference's, and a row's result does not depend on the number of rows`, async () => {
          for (const [n, k] of plain.includes(format) ? shapes : unpackedShapes) {
            if (k % definitions[format].blockElements !== 0 || (k % 32 !== 0 && activation === 'int8-group32')) continue;
            const plan = linearPlan(format, activation, n, k);
            const rows = activationRows(k);
            const all = await expected(`${format} ${activation} ${n} ${k}`, async () => {
              const { run, program } = await compile(reference, plan, maxRows);
              const { out } = await run(rows, plainBatch(maxRows));
              program.close();
              return out;
            });
            const actual = await compile(backend, plan, maxRows);
            const { out: whole } = await actual.run(rows, plainBatch(maxRows));
            expect(normalisedError(whole, all), `n ${n}, k ${k}`).toBeLessThan(10 * F32_ERROR);
            for (const numRows of rowCounts) {
              const { out } = await actual.run(rows, plainBatch(numRows));
              expect(out, `n ${n}, k ${k}, ${numRows} rows`).toEqual(whole.subarray(0, numRows * n));
            }
            actual.program.close();
          }
        });
      }
    }

    test.runIf(name.startsWith('cpu'))(
      'rows of a long prompt are those of short ones, beyond two blocks of rows, pieces of a segment and segments',
      async () => {
        const [numRows, n, k] = [540, 70, 2304];
        const rows = normals(5, numRows * k);
        for (const format of ['q8_0', 'q4_0', 'int4_g32', 'q4_k', 'int8_channel'] as const) {
          const { run, program } = await compile(
            backend,
            linearPlan(format, format === 'int8_channel' ? 'int8-token' : 'int8-group32', n, k),
            numRows,
          );
          const { out: whole } = await run(rows, plainBatch(numRows));
          for (const [begin, end] of [
            [0, 1],
            [262, 267],
            [533, 540],
          ]) {
            const { out } = await run(rows.subarray(begin * k, end * k), plainBatch(end - begin));
            expect(out, `${format}, rows from ${begin}`).toEqual(whole.subarray(begin * n, end * n));
          }
          program.close();
        }
      },
    );
  });
}

test('the measure of error sees a single wrong number', () => {
  const right = normals(1, 1000);
  const wrong = right.slice();
  wrong[500] += 1e-3;
  expect(normalisedError(wrong, right)).toBeGreaterThan(10 * F32_ERROR);
  wrong[500] = NaN;
  expect(normalisedError(wrong, right)).toBe(Infinity);
});
