/**
 * Attention over numbers that arithmetic stumbles over, in every number type of the cache, against the reference.
 *
 * Compared is each output element. Where the reference has NaN or an infinity the kernel has one of them. Where the reference is finite the kernel is too; it is
 * off by no more than the errors of scores in f32 make of the weights (where scores are so large that their errors choose the key, it is some mean of the
 * values), and, where weights are rounded to bf16, by a rounding that falls to the other side. Whatever is in the other rows, a row has the same bits.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Backend, ForwardBatch, KvDtype } from '../../src/backends/backend.ts';
import { kvRounding } from '../../src/backends/reference/kv-rounding.ts';
import { ReferenceBackend } from '../../src/backends/reference/reference-backend.ts';
import { PlanBuilder } from '../../src/plan/builder.ts';
import type { Plan } from '../../src/plan/plan.ts';
import { TestRows } from '../fixtures/rows.ts';
import { candidates } from './backends.ts';
import { type Draws, FUZZ_TIMEOUT_MS, fuzz, hostileNumbers, sourceOf } from './hostile.ts';

interface Shape {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly window: number;
  readonly softCap: number;
  readonly sinks: boolean;
  readonly blockSize: number;
  readonly activation: 'f32' | 'bf16';
  /** Tokens of each row before the last step, which adds `added` to each. */
  readonly lengths: readonly number[];
  readonly added: number;
}

function draw(random: Draws): Shape {
  const numKvHeads = random.between(1, 3);
  return {
    numKvHeads,
    numHeads: numKvHeads * random.between(1, 7),
    headDim: random.of([1, 5, 6, 16, 20, 33, 64, 80, 96]),
    window: random.of([0, 0, 7, 300]),
    softCap: random.of([0, 0, 10]),
    sinks: random.below(3) === 0,
    blockSize: random.of([1, 2, 4, 8, 16, 32]),
    activation: random.of(['f32', 'bf16']),
    lengths: Array.from({ length: random.between(1, 4) }, () => random.between(1, random.of([9, 40, 300]))),
    added: random.of([1, 1, 3, 12]),
  };
}

function planOf({ numHeads, numKvHeads, headDim, window, softCap, sinks, activation }: Shape): Plan {
  const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
  const [qWidth, kvWidth] = [numHeads * headDim, numKvHeads * headDim];
  const input = builder.embeddings(qWidth + 2 * kvWidth);
  builder.cacheGroup({ name: 'g', kind: 'full', numLayers: 1, numKvHeads, headDim });
  const [k, v] = [builder.view('k', input, qWidth, kvWidth), builder.view('v', input, qWidth + kvWidth, kvWidth)];
  builder.emit('kv-write', 'w', { inputs: [k, v], attrs: { group: 0, layer: 0 } });
  const out = builder.value('out', 'tokens', qWidth);
  const attrs = { group: 0, layer: 0, numHeads, headDim, scale: headDim ** -0.5, softCap, window, activation };
  const weights = sinks ? [builder.vector('sinks', numHeads)] : [];
  builder.emit('attention', 'a', { inputs: [builder.view('q', input, 0, qWidth)], outputs: [out], weights, attrs });
  return builder.build('attention', { out });
}

/** q, k and v of each token of a row, most of a usual kind. */
function hostileTokens(random: Draws, tokens: number, { numHeads, numKvHeads, headDim }: Shape): Float32Array {
  const heads = numHeads + 2 * numKvHeads;
  const out = new Float32Array(tokens * heads * headDim);
  const [usual, mayBreak] = [random.of(['ordinary', 'ordinary', 'huge', 'tiny', 'denormal', 'zeros', 'constant', 'outliers']), random.below(3) === 0];
  for (let head = 0; head < tokens * heads; head++) {
    const one = out.subarray(head * headDim, (head + 1) * headDim);
    hostileNumbers(random, one, usual);
    if (random.below(40) === 0) hostileNumbers(random, one);
    for (let i = 0; i < headDim && !mayBreak; i++) if (!Number.isFinite(one[i])) one[i] = -7;
  }
  return out;
}

/** The batch of one row of another. */
function onlyRow(batch: ForwardBatch, row: number): ForwardBatch {
  const [begin, end] = [batch.rowStart[row], batch.rowStart[row + 1]];
  const part = <T extends Int32Array>(values: T) => values.slice(begin, end);
  return {
    ...batch,
    numTokens: end - begin,
    numRows: 1,
    numLogitRows: 0,
    tokenIds: part(batch.tokenIds),
    positions: part(batch.positions),
    rowStart: Int32Array.of(0, end - begin),
    cacheIndex: part(batch.cacheIndex),
    visibleEnd: part(batch.visibleEnd),
    slotMapping: part(batch.slotMapping),
    blockTables: batch.blockTables.slice(row * batch.maxBlocks, (row + 1) * batch.maxBlocks),
    logitTokens: new Int32Array(0),
  };
}

interface Outputs {
  /** The last step, all rows and row 0 alone. */
  readonly together: Float32Array;
  readonly alone: Float32Array;
}

async function outputsOf(
  backend: Backend,
  shape: Shape,
  plan: Plan,
  sinks: Float32Array,
  rowsData: readonly Float32Array[],
  dtype: KvDtype,
): Promise<Outputs> {
  const { lengths, added, blockSize } = shape;
  const { width } = plan.values[plan.input.value];
  const blocks = lengths.reduce((sum, length) => sum + Math.ceil((length + added) / blockSize), 0);
  const rows = new TestRows(plan.cacheGroups, { blockSize, numBlocks: blocks + 3, dtype });
  const cache = await backend.createCache(rows.spec);
  const program = await backend.compile(plan, sourceOf(plan, { sinks }), { maxTokens: 4 * 312, maxLogitRows: 4 });
  const run = async (batch: ForwardBatch, embeddings: Float32Array) =>
    (await backend.execute({ entries: [{ program, cache, batch, embeddings }], sampling: null, readOutputs: ['out'] })).outputs.out;
  const chunk = (count: (row: number) => number) => rows.batch(lengths.map((_, row) => ({ row, tokenIds: Array<number>(count(row)).fill(0) })));
  await run(
    chunk((row) => lengths[row]),
    new Float32Array(rowsData.flatMap((data, row) => [...data.subarray(0, lengths[row] * width)])),
  );
  const batch = chunk(() => added);
  const last = rowsData.map((data, row) => data.subarray(lengths[row] * width));
  const together = (await run(batch, new Float32Array(last.flatMap((data) => [...data])))).slice();
  const alone = (await run(onlyRow(batch, 0), last[0].slice())).slice();
  program.close();
  cache.close();
  return { together, alone };
}

/** Error of an f32 dot product as a part of the magnitudes in it. */
const DOT_ERROR = 64 * 2 ** -24;
/** bf16 dot products take numbers below 2^-126 for zero. */
const FLUSHED = 2 ** -118;

/** Checks the outputs of the last step of one row; `data` holds q, k and v of all its tokens. */
function compareRow(shape: Shape, dtype: KvDtype, row: number, data: Float32Array, actual: Float32Array, right: Float32Array): void {
  const { numHeads, numKvHeads, headDim, window, lengths, added } = shape;
  const [heads, scale] = [numHeads + 2 * numKvHeads, headDim ** -0.5];
  const round = kvRounding[dtype];
  const stored = data.slice();
  for (let head = 0; head < data.length / headDim; head++) if (head % heads >= numHeads) round(data, head * headDim, headDim, stored, head * headDim);
  const at = (token: number, head: number) => (token * heads + head) * headDim;
  for (let t = 0; t < added; t++) {
    const end = lengths[row] + t + 1;
    const begin = window === 0 ? 0 : Math.max(0, end - window);
    for (let h = 0; h < numHeads; h++) {
      const kv = numHeads + Math.floor((h * numKvHeads) / numHeads);
      let scoreError = 0;
      for (let key = begin; key < end; key++) {
        let size = 0;
        for (let i = 0; i < headDim; i++) size += Math.abs(stored[at(end - 1, h) + i] * stored[at(key, kv) + i]);
        scoreError = Math.max(scoreError, DOT_ERROR * size * scale);
      }
      const weightError = (scoreError < 0.5 ? Math.expm1(2 * scoreError) : 2) + (shape.activation === 'bf16' ? 2 ** -7 : 0) + 2e-5;
      for (let i = 0; i < headDim; i++) {
        let largest = 0;
        for (let key = begin; key < end; key++) largest = Math.max(largest, Math.abs(stored[at(key, kv + numKvHeads) + i]));
        const [got, wanted] = [actual[(t * numHeads + h) * headDim + i], right[(t * numHeads + h) * headDim + i]];
        const isGood = Number.isFinite(wanted)
          ? Number.isFinite(got) && !(Math.abs(got - wanted) > weightError * largest + FLUSHED)
          : !Number.isFinite(got);
        if (!isGood)
          expect.fail(
            `row ${row}, token ${t}, head ${h}, element ${i} is ${got}, not ${wanted} +- ${weightError} of ${largest}; ${JSON.stringify(shape)}`,
          );
      }
    }
  }
}

for (const { name, open } of (await candidates()).slice(1)) {
  describe(name, () => {
    const reference = new ReferenceBackend();
    let backend: Backend;
    beforeAll(async () => {
      backend = await open();
    });
    afterAll(() => backend?.close());

    test.each(Object.keys(kvRounding) as KvDtype[])(
      'attention over a cache in %s is the reference’s whatever numbers meet, and a row’s bits do not depend on what the others hold',
      (dtype) =>
        fuzz(6, Object.keys(kvRounding).indexOf(dtype), async (random) => {
          const shape = draw(random);
          const plan = planOf(shape);
          const sinks = Float32Array.from({ length: shape.numHeads }, () => random.normal() * random.of([1, 50]));
          const data = shape.lengths.map((length) => hostileTokens(random, length + shape.added, shape));
          const [actual, right] = await Promise.all([backend, reference].map((b) => outputsOf(b, shape, plan, sinks, data, dtype)));
          const each = shape.added * shape.numHeads * shape.headDim;
          expect(actual.alone).toEqual(actual.together.slice(0, each));
          data.forEach((one, row) => {
            const part = (outputs: Outputs) => outputs.together.subarray(row * each, (row + 1) * each);
            compareRow(shape, dtype, row, one, part(actual), part(right));
          });
        }),
      FUZZ_TIMEOUT_MS,
    );
  });
}
