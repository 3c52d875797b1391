import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import type { PlanBuilder } from '../../src/plan/builder.ts';
import { weightFormats } from '../../src/plan/encode.ts';
import type { MoeRouteAttrs } from '../../src/plan/ops/moe-route.ts';
import type { Activation, Plan, Value, WeightFormat } from '../../src/plan/plan.ts';
import { weightFormats as definitions } from '../../src/quant/formats/index.ts';
import { singleOpPlan } from '../fixtures/decoder.ts';
import { normals } from '../fixtures/weights.ts';
import { candidates, F32_ERROR, normalisedError, remembered } from './backends.ts';
import { compile, plainBatch } from './single-op.ts';

const rowCounts = [1, 8, 33, 70];
const maxRows = Math.max(...rowCounts);
const reference = new ReferenceBackend();

const plainRoute: MoeRouteAttrs = { score: 'softmax', normalise: 'sum', groups: 1, keptGroups: 1, groupScore: 'max', scale: 1 };

interface RouteCase {
  readonly name: string;
  readonly experts: number;
  readonly slots: number;
  readonly attrs: MoeRouteAttrs;
  readonly bias?: boolean;
}

const routeCases: readonly RouteCase[] = [
  { name: 'Mixtral', experts: 8, slots: 2, attrs: plainRoute },
  { name: 'Qwen 2', experts: 60, slots: 4, attrs: { ...plainRoute, normalise: 'none' } },
  { name: 'one expert behind a sigmoid', experts: 1, slots: 1, attrs: { ...plainRoute, score: 'sigmoid', normalise: 'none' } },
  { name: 'all experts', experts: 7, slots: 7, attrs: plainRoute },
  { name: 'DeepSeek-V2', experts: 24, slots: 6, attrs: { ...plainRoute, normalise: 'none', groups: 8, keptGroups: 3, scale: 16 } },
  {
    name: 'DeepSeek-V3',
    experts: 32,
    slots: 4,
    attrs: { score: 'sigmoid', normalise: 'sum', groups: 8, keptGroups: 4, groupScore: 'top2', scale: 2.5 },
    bias: true,
  },
  { name: 'softmax with a bias', experts: 33, slots: 5, attrs: plainRoute, bias: true },
];

function route(builder: PlanBuilder, logits: Value, slots: number, attrs: MoeRouteAttrs, bias: boolean): [Value, Value] {
  const outputs = [builder.value('ids', 'tokens', slots, 'i32'), builder.value('weights', 'tokens', slots)] as [Value, Value];
  builder.emit('moe-route', 'route', { inputs: [logits], outputs, weights: bias ? [builder.vector('correction', logits.width)] : [], attrs });
  return outputs;
}

const activations: Activation[] = ['f32', 'bf16', 'int8-group32', 'int8-token'];
const plain: readonly WeightFormat[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'int8_channel'];
/** [outputs, inputs] of each expert: odd ones, a tile and a bit, beyond a segment. */
const shapes = [
  [3, 1],
  [33, 96],
  [70, 1056],
] as const;
const wideShapes = [[33, 256]] as const;
const EXPERTS = 6;
const SLOTS = 2;

/** The first columns choose experts; then one expert-linear whose slots share an input and whose rows are cut in two, and one with an input for each slot. */
function expertsPlan(format: WeightFormat, activation: Activation, n: number, k: number): Plan {
  return singleOpPlan(EXPERTS + k + SLOTS * k, { format, activation }, (builder, input) => {
    const [ids, weights] = route(builder, builder.view('logits', input, 0, EXPERTS), SLOTS, plainRoute, false);
    const matrices = (name: string, rows: number, columns: number) => [
      builder.expertMatrices(
        name,
        [EXPERTS, rows, columns],
        Array.from({ length: EXPERTS }, (_, index) => ({ tensor: name, shape: [EXPERTS, rows, columns], index })),
      ),
      builder.weightOf(
        `${name}.bias`,
        EXPERTS * rows,
        null,
        Array.from({ length: EXPERTS }, (_, e) => ({ tensor: `${name}.${e}.bias`, shape: [rows] })),
      ),
    ];
    const [up, upBias] = matrices('up', n, k);
    const cut = Math.max(1, n >> 1);
    const x = builder.view('x', input, EXPERTS, k);
    const halves = builder.expertLinear('up', x, ids, up, upBias, [
      ['a', cut],
      ['b', n - cut],
    ]);
    const ofSlots = builder.view('ofSlots', input, EXPERTS + k, SLOTS * k);
    const [down, downBias] = matrices('down', n, k);
    const [each] = builder.expertLinear('down', ofSlots, ids, down, downBias, [['d', n]]);
    const combined = builder.value('combined', 'tokens', n);
    builder.emit('expert-combine', 'combine', { inputs: [each, weights], outputs: [combined], attrs: {} });
    return { a: halves[0], b: halves[1], each, combined };
  });
}

/** Expert 0 takes part in every row, the last in none, the others in some. */
function expertRows(k: number): Float32Array {
  const width = EXPERTS + k + SLOTS * k;
  const rows = normals(99, maxRows * width);
  for (let row = 0; row < maxRows; row++) {
    rows[row * width] += 20;
    rows[row * width + EXPERTS - 1] -= 20;
  }
  return rows;
}

const expected = remembered<Record<string, Float32Array>>();

for (const { name, open } of await candidates({ withDotProducts: true })) {
  describe(name, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(routeCases)('routing as $name chooses and weighs exactly as the reference', async ({ experts, slots, attrs, bias = false }) => {
      // ids are not floats, and so no output to be read: experts that answer with a number of their own tell them
      const width = experts + 1;
      const plan = singleOpPlan(width, { format: 'f32', activation: 'f32' }, (builder, x) => {
        const [ids, weights] = route(builder, builder.view('logits', x, 0, experts), slots, attrs, bias);
        const parts = Array.from({ length: experts }, (_, index) => ({ tensor: 'w', shape: [experts, 1, 1], index }));
        const answers = builder.vector('answers', experts);
        const zero = builder.view('zero', x, experts, 1);
        const [chosen] = builder.expertLinear('chosen', zero, ids, builder.expertMatrices('w', [experts, 1, 1], parts), answers, [['chosen', 1]]);
        return { chosen, weights };
      });
      const rows = normals(3, maxRows * width, 3);
      for (let row = 0; row < maxRows; row++) rows[row * width + experts] = 0;
      // ties, infinities, a NaN, and values far apart
      rows.fill(1, 0, experts);
      rows[width] = Infinity;
      rows[2 * width] = NaN;
      for (let e = 0; e < experts; e++) rows[3 * width + e] = 60 * (e - experts / 2);
      const [right, actual] = await Promise.all(
        [reference, backend].map(async (b) => (await compile(b, plan, maxRows)).run(rows, plainBatch(maxRows))),
      );
      expect(new Set(right.chosen).size).toBeGreaterThan(0.9 * experts);
      expect(actual).toEqual(right);
    });

    test.each([2, 33, 100])('the clamped gate over %i columns is the reference’s', async (width) => {
      const plan = singleOpPlan(2 * width, { format: 'f32', activation: 'f32' }, (builder, x, value) => {
        const inputs = [builder.view('gate', x, 0, width), builder.view('up', x, width, width)];
        const out = value('out', width);
        builder.emit('clamped-swiglu', 'g', { inputs, outputs: [out], attrs: { alpha: 1.702, limit: 7 } });
        return { out };
      });
      const rows = normals(4, maxRows * 2 * width, 6);
      rows[1] = NaN;
      const [right, actual] = await Promise.all(
        [reference, backend].map(async (b) => (await compile(b, plan, maxRows)).run(rows, plainBatch(maxRows))),
      );
      expect(normalisedError(actual.out, right.out)).toBeLessThan(1e-11);
      expect(actual.out[1]).toBeNaN();
    });

    for (const format of weightFormats) {
      test(`experts of ${format} are the reference's, whoever else chose them`, async () => {
        for (const activation of plain.includes(format) ? activations : (['f32', 'int8-group32'] as const)) {
          for (const [n, k] of plain.includes(format) ? shapes : wideShapes) {
            if (k % definitions[format].blockElements !== 0 || (k % 32 !== 0 && activation === 'int8-group32')) continue;
            const plan = expertsPlan(format, activation, n, k);
            const rows = expertRows(k);
            const right = await expected(`${format} ${activation} ${n} ${k}`, async () => {
              const { run, program } = await compile(reference, plan, maxRows);
              const outputs = await run(rows, plainBatch(maxRows));
              program.close();
              return outputs;
            });
            const { run, program } = await compile(backend, plan, maxRows);
            const whole = await run(rows, plainBatch(maxRows));
            for (const [output, values] of Object.entries(whole))
              expect(normalisedError(values, right[output]), `${output}, ${activation}, n ${n}, k ${k}`).toBeLessThan(10 * F32_ERROR);
            for (const numRows of rowCounts) {
              const some = await run(rows, plainBatch(numRows));
              for (const [output, values] of Object.entries(some))
                expect(values, `${output}, ${numRows} rows`).toEqual(whole[output].subarray(0, values.length));
            }
            program.close();
          }
        }
      });
    }
  });
}
