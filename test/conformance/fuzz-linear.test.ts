/**
 * Linear layers over numbers that arithmetic stumbles over, against the reference: `linear`, `head-linear` and `expert-linear` of every weight format.
 *
 * Compared is each output element, with S the sum of the magnitudes of its terms (of block formats, a weight counts as the largest of its group):
 * - where the reference has NaN or an infinity, the kernel has one of them: a kernel that factors a scale out of a group cannot tell them apart;
 * - where S is beyond the range of f32, partial sums may overflow: the kernel has the reference's number or none that is finite;
 * - else both are finite and differ by no more than f32 sums of so many terms may, a part of S, and by less than what underflow may take away.
 * Whatever is in the other rows, a row has the same bits.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { roundActivation } from '../../src/backends/reference/linear.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { weightFormats } from '../../src/plan/encode.ts';
import type { Activation, Plan, WeightFormat } from '../../src/plan/plan.ts';
import { weightFormats as definitions } from '../../src/quant/formats/index.ts';
import { singleOpPlan } from '../fixtures/decoder.ts';
import { candidates } from './backends.ts';
import { type Draws, FUZZ_TIMEOUT_MS, fuzz, hostileMatrix, hostileRows, sourceOf } from './hostile.ts';
import { plainBatch } from './single-op.ts';

const activations: Activation[] = ['f32', 'bf16', 'int8-group32', 'int8-token'];
const F32_MAX = 3.4028234663852886e38;
const reference = new ReferenceBackend();

type Kind = 'linear' | 'head-linear' | 'expert-linear';

interface Round {
  readonly what: string;
  readonly plan: Plan;
  readonly tensors: Record<string, Uint8Array | Float32Array>;
  /** `[numRows, inputWidth]`. */
  readonly rows: Float32Array;
  readonly inputWidth: number;
  readonly numRows: number;
  readonly n: number;
  /** The dot product behind an output of a row: where its x begins in the row, its weights, its bias. */
  term(row: number, output: number): { at: number; weights: Float32Array; bias: number };
}

function draw(random: Draws, format: WeightFormat): Round & { activation: Activation; k: number } {
  const { blockElements, dequantize } = definitions[format];
  const kind = random.of<Kind>(['linear', 'linear', 'head-linear', 'expert-linear']);
  const activation = random.of(activations);
  const unit = Math.max(blockElements, activation === 'int8-group32' ? 32 : kind === 'head-linear' ? 4 : 1);
  const [numRows, heads, experts] = [random.of([1, 2, 3, 5, 8, 9, 17, 65, 70]), random.between(1, 3), 3];
  // up to two segments of K, fewer outputs where K is long
  const k = unit * random.between(1, Math.max(1, Math.floor(random.of([64, 300, 2100]) / unit)));
  const m = random.between(1, Math.max(2, Math.min(150, Math.floor(30_000 / k))));
  const count = kind === 'head-linear' ? heads : kind === 'expert-linear' ? experts : 1;
  const n = kind === 'head-linear' ? heads * m : m;
  const bytes = hostileMatrix(random, format, count * m, k);
  const values = new Float32Array(count * m * k);
  dequantize(bytes, values);
  const bias = Float32Array.from({ length: count * m }, () => random.normal());
  const inputWidth = kind === 'head-linear' ? heads * k : kind === 'expert-linear' ? experts + k : k;
  const rows = hostileRows(random, numRows, inputWidth);
  // the expert of a row is its number
  if (kind === 'expert-linear')
    for (let row = 0; row < numRows; row++) for (let e = 0; e < experts; e++) rows[row * inputWidth + e] = row % experts === e ? 9 : 0;
  const plan = singleOpPlan(inputWidth, { format, activation }, (builder, input) => {
    if (kind === 'linear') return { out: builder.linear('l', input, builder.matrix('w', n, k), builder.vector('b', n)) };
    if (kind === 'head-linear') return { out: builder.headLinear('h', input, heads, builder.matrix('w', n, k)) };
    const [ids, weights] = [builder.value('ids', 'tokens', 1, 'i32'), builder.value('weights', 'tokens', 1)];
    const attrs = { score: 'softmax', normalise: 'sum', groups: 1, keptGroups: 1, groupScore: 'max', scale: 1 } as const;
    builder.emit('moe-route', 'r', { inputs: [builder.view('logits', input, 0, experts)], outputs: [ids, weights], weights: [null], attrs });
    const parts = Array.from({ length: experts }, (_, index) => ({ tensor: 'w', shape: [experts, n, k], index }));
    const biases = builder.weightOf(
      'b',
      experts * n,
      null,
      parts.map(({ index }) => ({ tensor: `b${index}`, shape: [n] })),
    );
    return {
      out: builder.expertLinear('e', builder.view('x', input, experts, k), ids, builder.expertMatrices('w', [experts, n, k], parts), biases, [
        ['out', n],
      ])[0],
    };
  });
  return {
    what: `${kind} of ${format} by ${activation}, ${numRows} rows, n ${n}, k ${k}`,
    plan,
    tensors: { w: bytes, b: bias, ...Object.fromEntries(Array.from({ length: count }, (_, e) => [`b${e}`, bias.subarray(e * m, (e + 1) * m)])) },
    rows,
    inputWidth,
    numRows,
    n,
    activation,
    k,
    term(row, output) {
      const matrixRow = kind === 'expert-linear' ? (row % experts) * n + output : output;
      const at = kind === 'head-linear' ? Math.floor(output / m) * k : kind === 'expert-linear' ? experts : 0;
      return { at, weights: values.subarray(matrixRow * k, (matrixRow + 1) * k), bias: kind === 'head-linear' ? 0 : bias[matrixRow] };
    },
  };
}

/** Elements that share what a kernel factors out: within them a weight counts as much as the largest. */
const GROUP = 32;

/** What a kernel may be off by, and the sum of the magnitudes of all terms. */
function allowance(x: Float64Array, weights: Float32Array, bias: number, isPlain: boolean): { error: number; size: number } {
  const least = 2 ** -126;
  let size = Math.abs(bias);
  let flushed = 0;
  for (let begin = 0; begin < weights.length; begin += GROUP) {
    const end = Math.min(weights.length, begin + GROUP);
    let largest = 0;
    for (let i = begin; i < end; i++) largest = Math.max(largest, Math.abs(weights[i]));
    for (let i = begin; i < end; i++) {
      const product = Math.abs(x[i]) * (isPlain ? Math.abs(weights[i]) : largest);
      size += product;
      // bf16 dot products take such numbers for zero
      if (Math.abs(x[i]) < least || Math.abs(weights[i]) < least) flushed += product;
    }
  }
  // each addition rounds once; under a scale and a minimum, the two parts of a weight may be larger than it
  return { error: (isPlain ? 1 : 4) * (16 + weights.length) * 2 ** -24 * size + flushed + weights.length * least, size };
}

function compare(round: Round & { activation: Activation; k: number }, isPlain: boolean, actual: Float32Array, right: Float32Array): void {
  const { numRows, n, k, rows, inputWidth, activation } = round;
  const rounded = new Float64Array(inputWidth);
  const partsOf = new Map<number, Float64Array>();
  for (let row = 0; row < numRows; row++) {
    partsOf.clear();
    for (let output = 0; output < n; output++) {
      const { at, weights, bias } = round.term(row, output);
      let x = partsOf.get(at);
      if (x === undefined) {
        x = rounded.subarray(at, at + k);
        const from = row * inputWidth + at;
        roundActivation(activation, rows.subarray(from, from + k), x);
        partsOf.set(at, x);
      }
      const [got, wanted] = [actual[row * n + output], right[row * n + output]];
      const { error, size } = allowance(x, weights, bias, isPlain);
      const isGood = !Number.isFinite(wanted)
        ? !Number.isFinite(got) || size > F32_MAX / 4
        : (size > F32_MAX / 4 && !Number.isFinite(got)) || Math.abs(got - wanted) <= error;
      if (!isGood) expect.fail(`${round.what}: row ${row}, output ${output} is ${got}, not ${wanted} +- ${error} (terms of ${size})`);
    }
  }
}

for (const { name, open } of (await candidates()).slice(1)) {
  describe(name, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(weightFormats)(
      'linear layers of %s weights are the reference’s whatever numbers meet, and a row’s bits do not depend on what the others hold',
      async (format) => {
        await fuzz(3, weightFormats.indexOf(format), async (random) => {
          const round = draw(random, format);
          const { plan, tensors, rows, inputWidth, numRows, n } = round;
          const source = sourceOf(plan, tensors);
          const outputs = await Promise.all(
            [backend, reference].map(async (b) => {
              const program = await b.compile(plan, source, { maxTokens: numRows, maxLogitRows: numRows });
              const run = async (count: number, data: Float32Array) => {
                const step = {
                  entries: [{ program, cache: null, batch: plainBatch(count), embeddings: data }],
                  sampling: null,
                  readOutputs: ['out'],
                };
                return (await b.execute(step)).outputs.out;
              };
              const whole = await run(numRows, rows);
              if (b !== reference) {
                const row = random.below(numRows);
                const one = await run(1, rows.slice(row * inputWidth, (row + 1) * inputWidth));
                if (!round.what.startsWith('expert') || row % 3 === 0)
                  expect(one, `${round.what}: row ${row} alone`).toEqual(whole.slice(row * n, (row + 1) * n));
              }
              program.close();
              return whole;
            }),
          );
          compare(round, definitions[format].blockElements === 1, outputs[0], outputs[1]);
        });
      },
      FUZZ_TIMEOUT_MS,
    );
  });
}
