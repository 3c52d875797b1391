/**
 * Ops on elements and rows over numbers that arithmetic stumbles over, against the reference.
 *
 * Compared is each element: where the reference has NaN or an infinity the kernel has one of them; where the reference is finite the kernel is too, and differs
 * by no more than a part of the number and of what it was made from (`part` of each op). Squares of inputs stay in the range of f32. Looking a row of a table up
 * is exact but for the sign of zeros.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backends/backend.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { PlanBuilder } from '../../src/plan/builder.ts';
import { weightFormats } from '../../src/plan/encode.ts';
import type { Plan, Value, WeightFormat } from '../../src/plan/plan.ts';
import { weightFormats as definitions } from '../../src/quant/formats/index.ts';
import { singleOpPlan } from '../fixtures/decoder.ts';
import { candidates } from './backends.ts';
import { type Draws, FUZZ_TIMEOUT_MS, fuzz, hostileMatrix, hostileRows, sourceOf } from './hostile.ts';
import { plainBatch } from './single-op.ts';

interface Op {
  readonly name: string;
  /** Inputs of a row, each as wide as the output, and its op. */
  readonly inputs: 1 | 2;
  make(builder: PlanBuilder, inputs: readonly Value[], width: number): Value;
  /** Sizes whose 1e-5th part the element may be off by, beside its own: of its inputs, its row, the weights of the row. */
  part?(inputs: readonly number[], row: Float32Array, weight: number): number;
}

const epsilon = 1e-6;
const largestOf = (row: Float32Array) => row.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
/** 1 / standard deviation, as layer-norm has it. */
function inverseDeviation(row: Float32Array): number {
  const mean = row.reduce((sum, x) => sum + x, 0) / row.length;
  return 1 / Math.sqrt(row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / row.length + epsilon);
}
/** The exponential of f32 ends at e^-87: what it multiplies is not quite 0 beyond. */
const END = 1e-32;
/** What the reference loses where its f64 cancels: 1 + tanh and 1 + erf far below 0. */
const CANCELLED = 1e-10;

const ops: readonly Op[] = [
  {
    name: 'rms-norm',
    inputs: 1,
    make: (builder, [x], width) =>
      builder.map('rms-norm', 'o', x, { weights: [builder.vector('v', width)], attrs: { epsilon, weightOffset: 0, groupWidth: width } }),
  },
  {
    name: 'layer-norm',
    inputs: 1,
    make: (builder, [x], width) => builder.map('layer-norm', 'o', x, { weights: [builder.vector('v', width), null], attrs: { epsilon } }),
    part: (_, row, weight) => largestOf(row) * inverseDeviation(row) * Math.abs(weight),
  },
  ...(['silu', 'gelu-tanh', 'gelu', 'relu'] as const).map(
    (name): Op => ({
      name,
      inputs: 1,
      make: (builder, [x]) => builder.map('activation', 'o', x, { attrs: { function: name } }),
      part: ([x]) => (name.startsWith('gelu') ? CANCELLED : END) * Math.abs(x),
    }),
  ),
  ...(['silu', 'gelu-tanh', 'gelu'] as const).map(
    (name): Op => ({
      name: `gate of ${name}`,
      inputs: 2,
      make(builder, inputs, width) {
        const out = builder.value('o', 'tokens', width);
        builder.emit('gated-activation', 'o', { inputs: [...inputs], outputs: [out], attrs: { function: name } });
        return out;
      },
      part: ([gate, up]) => (name.startsWith('gelu') ? CANCELLED : END) * Math.abs(gate * up) + END * Math.abs(up),
    }),
  ),
  {
    name: 'clamped gate',
    inputs: 2,
    make(builder, inputs, width) {
      const out = builder.value('o', 'tokens', width);
      builder.emit('clamped-swiglu', 'o', { inputs: [...inputs], outputs: [out], attrs: { alpha: 1.702, limit: 7 } });
      return out;
    },
    part: ([gate, up]) => END * Math.abs(gate) + Math.abs(Math.min(7, gate)) * Math.max(1, Math.min(7, Math.abs(up))),
  },
  { name: 'soft-cap', inputs: 1, make: (builder, [x]) => builder.map('soft-cap', 'o', x, { attrs: { cap: 30 } }) },
  { name: 'scale', inputs: 1, make: (builder, [x]) => builder.map('scale', 'o', x, { attrs: { factor: 0.3 } }) },
  { name: 'add', inputs: 2, make: (builder, [a, b]) => builder.add('o', a, b) },
  {
    name: 'rope',
    inputs: 1,
    make(builder, [x], width) {
      const frequencies = builder.constant(
        'f',
        Float32Array.from({ length: width / 2 }, (_, i) => 10000 ** ((-2 * i) / width)),
      );
      return builder.map('rope', 'o', x, { constants: [frequencies], attrs: { headDim: width, rotaryDim: width, style: 'half', magnitude: 1 } });
    },
    part: (_, row) => largestOf(row),
  },
];

async function runOn(
  backend: Backend,
  plan: Plan,
  tensors: Record<string, Uint8Array | Float32Array>,
  rows: Float32Array,
  numRows: number,
  tokenIds?: Int32Array,
) {
  const program = await backend.compile(plan, sourceOf(plan, tensors), { maxTokens: numRows, maxLogitRows: numRows });
  const batch = { ...plainBatch(numRows), ...(tokenIds === undefined ? {} : { tokenIds }) };
  const entry = tokenIds === undefined ? { program, cache: null, batch, embeddings: rows } : { program, cache: null, batch };
  const { outputs } = await backend.execute({ entries: [entry], sampling: null, readOutputs: ['out'] });
  program.close();
  return outputs.out;
}

async function roundOf(op: Op, random: Draws, backends: readonly Backend[]): Promise<void> {
  const [numRows, width] = [random.between(1, 20), 2 * random.between(1, random.of([4, 70, 400]))];
  const plan = singleOpPlan(op.inputs * width, { format: 'f32', activation: 'f32' }, (builder, input) => {
    const inputs = op.inputs === 1 ? [input] : [builder.view('a', input, 0, width), builder.view('b', input, width, width)];
    return { out: op.make(builder, inputs, width) };
  });
  const weights = Float32Array.from({ length: width }, () => random.normal());
  const rows = new Float32Array(numRows * op.inputs * width);
  // each input of a row of a kind of its own
  rows.set(hostileRows(random, numRows * op.inputs, width));
  const [actual, right] = await Promise.all(backends.map((b) => runOn(b, plan, { v: weights }, rows, numRows)));
  for (let i = 0; i < right.length; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    const from = row * op.inputs * width;
    const inputs = Array.from({ length: op.inputs }, (_, part) => rows[from + part * width + column]);
    const part = op.part?.(inputs, rows.subarray(from, from + width), weights[column]) ?? 0;
    const error = 1e-5 * (Math.abs(right[i]) + (Number.isNaN(part) ? 0 : part)) + 2 ** -126;
    const isGood = Number.isFinite(right[i]) ? Math.abs(actual[i] - right[i]) <= error : !Number.isFinite(actual[i]);
    if (!isGood) expect.fail(`${numRows} rows of ${width}: of ${inputs} in row ${row} came ${actual[i]}, not ${right[i]} +- ${error}`);
  }
}

function embeddingPlan(format: WeightFormat, n: number, k: number): Plan {
  const builder = new PlanBuilder({ formatOf: () => format, activationFor: () => 'f32' });
  const out = builder.value('out', 'tokens', k);
  builder.emit('embedding', 'e', { inputs: [builder.tokenIds()], outputs: [out], weights: [builder.matrix('w', n, k)], attrs: { scale: 1.5 } });
  return builder.build('embedding', { out });
}

for (const { name, open } of (await candidates()).slice(1)) {
  describe(name, () => {
    const reference = new ReferenceBackend();
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(ops)(
      '$name is the reference’s whatever numbers meet',
      (op) => fuzz(8, ops.indexOf(op), (random) => roundOf(op, random, [backend, reference])),
      FUZZ_TIMEOUT_MS,
    );

    test.each(weightFormats)(
      'rows of a table of %s are looked up exactly, whatever is in it',
      (format) =>
        fuzz(2, weightFormats.indexOf(format), async (random) => {
          const { blockElements } = definitions[format];
          const [n, k] = [random.between(1, 70), blockElements * random.between(1, Math.max(1, Math.floor(300 / blockElements)))];
          const tokenIds = Int32Array.from({ length: 30 }, () => random.below(n));
          const tensors = { w: hostileMatrix(random, format, n, k) };
          const plan = embeddingPlan(format, n, k);
          const [actual, right] = await Promise.all([backend, reference].map((b) => runOn(b, plan, tensors, new Float32Array(0), 30, tokenIds)));
          const wrong = right.findIndex((x, i) => x !== actual[i] && !(Number.isNaN(x) && Number.isNaN(actual[i])));
          if (wrong >= 0) expect.fail(`${n} by ${k}: element ${wrong} is ${actual[wrong]}, not ${right[wrong]}`);
        }),
      FUZZ_TIMEOUT_MS,
    );
  });
}
