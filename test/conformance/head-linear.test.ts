import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { Activation, WeightFormat } from '../../src/plan/plan.ts';
import { weightFormats as definitions } from '../../src/quant/formats/index.ts';
import { singleOpPlan } from '../fixtures/decoder.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, F32_ERROR, normalisedError, remembered, rowCounts } from './backends.ts';
import { compile, plainBatch } from './single-op.ts';

const formats: WeightFormat[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'int8_channel', 'q4_k', 'q6_k', 'iq4_nl'];
const activations: Activation[] = ['f32', 'bf16', 'int8-group32', 'int8-token'];
/** [heads, outputs of a head, inputs of a head]: heads that are whole tiles of 64, parts of one, and neither; beyond one segment. */
const shapes = [
  [1, 5, 4],
  [3, 64, 32],
  [5, 24, 36],
  [2, 160, 256],
  [2, 70, 1280],
];
const maxRows = Math.max(...rowCounts);
const reference = new ReferenceBackend();
const expected = remembered<Float32Array>();

function headLinearPlan(format: WeightFormat, activation: Activation, numHeads: number, m: number, k: number) {
  return singleOpPlan(numHeads * k, { format, activation }, (builder, input) => {
    const out = builder.value('out', 'tokens', numHeads * m);
    builder.emit('head-linear', 'h', {
      inputs: [input],
      outputs: [out],
      weights: [builder.matrix('w', numHeads * m, k)],
      attrs: { numHeads, activation },
    });
    return { out };
  });
}

for (const { name, open } of await candidates({ withDotProducts: true })) {
  describe(name, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    for (const format of formats) {
      test.each(activations)(
        `head-linear of ${format} weights with %s activations is the reference's at every number of rows`,
        async (activation) => {
          for (const [numHeads, m, k] of shapes) {
            if (k % definitions[format].blockElements !== 0 || (k % 32 !== 0 && activation === 'int8-group32')) continue;
            const plan = headLinearPlan(format, activation, numHeads, m, k);
            const rows = normals(98, maxRows * numHeads * k);
            const all = await expected(`${format} ${activation} ${numHeads} ${m} ${k}`, async () => {
              const { run, program } = await compile(reference, plan, maxRows);
              const { out } = await run(rows, plainBatch(maxRows));
              program.close();
              return out;
            });
            const actual = await compile(backend, plan, maxRows);
            const { out: whole } = await actual.run(rows, plainBatch(maxRows));
            expect(normalisedError(whole, all), `${numHeads} heads, ${m} by ${k}`).toBeLessThan(10 * F32_ERROR);
            for (const numRows of rowCounts) {
              const { out } = await actual.run(rows, plainBatch(numRows));
              expect(out, `${numHeads} heads, ${m} by ${k}, ${numRows} rows`).toEqual(whole.subarray(0, numRows * numHeads * m));
            }
            actual.program.close();
          }
        },
      );
    }
  });
}

test('one head is a plain linear', async () => {
  const rows = normals(1, 3 * 96);
  const plan = singleOpPlan(96, { format: 'f32', activation: 'int8-group32' }, (builder, input) => ({
    out: builder.linear('l', input, builder.matrix('w', 7, 96)),
  }));
  const linear = await (await compile(reference, plan, 3)).run(rows, plainBatch(3));
  const heads = await (await compile(reference, headLinearPlan('f32', 'int8-group32', 1, 7, 96), 3)).run(rows, plainBatch(3));
  expect(heads.out).toEqual(linear.out);
});
