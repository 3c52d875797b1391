/** How steps reach a GPU: launched ahead of the results of the step before, and replayed from recordings. On the emulator. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ForwardBatch, StepResult } from '../../src/backends/backend.ts';
import type { NativeBackend } from '../../src/backends/native/native-backend.ts';
import { createCudaBackend, rowBuckets } from '../../src/backends/native/native-backend.ts';
import { createDummySource } from '../../src/weights/dummy-source.ts';
import { decoderPlan } from '../fixtures/decoder.ts';
import { type EngineFixture, engineOver } from '../fixtures/engine.ts';
import { greedy } from '../fixtures/rows.ts';

const shape = {
  numLayers: 2,
  hiddenSize: 64,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 16,
  intermediateSize: 96,
  vocabSize: 97,
  format: 'bf16',
  activation: 'bf16',
} as const;
const plan = decoderPlan(shape);
const blockSize = 16;
const numBlocks = 64;

let backend: NativeBackend;
beforeAll(async () => {
  backend = await createCudaBackend({ emulated: true, numThreads: 2 });
}, 900_000); // it may have to be compiled first
afterAll(() => backend?.close());

/** One token of each row, at the end of contexts of these lengths. Row r has blocks of its own. */
function decodeBatch(ids: readonly number[], lengths: readonly number[]): ForwardBatch {
  const numRows = ids.length;
  const maxBlocks = 20;
  return {
    numTokens: numRows,
    numRows,
    numLogitRows: numRows,
    tokenIds: Int32Array.from(ids),
    positions: Int32Array.from(lengths, (length) => length - 1),
    rowStart: Int32Array.from({ length: numRows + 1 }, (_, i) => i),
    cacheIndex: Int32Array.from(lengths, (length) => length - 1),
    visibleEnd: Int32Array.from(lengths),
    blockTables: Int32Array.from({ length: numRows * maxBlocks }, (_, i) => i),
    maxBlocks,
    slotMapping: Int32Array.from(lengths, (length, row) => row * maxBlocks * blockSize + length - 1),
    logitTokens: Int32Array.from({ length: numRows }, (_, i) => i),
    copies: new Int32Array(0),
    numCopies: 0,
  };
}

async function open(numRows: number) {
  const program = await backend.compile(plan, createDummySource(plan), { maxTokens: 16, maxLogitRows: 16 });
  const cache = await backend.createCache({ groups: plan.cacheGroups.map((g) => ({ ...g, numBlocks })), blockSize, dtype: 'bf16' });
  const step = (ids: readonly number[], lengths: readonly number[]) =>
    backend.execute({
      entries: [{ program, cache, batch: decodeBatch(ids, lengths) }],
      sampling: greedy(ids.length, { temperature: new Float32Array(ids.length).fill(1), position: Uint32Array.from(lengths) }),
      readOutputs: ['logits'],
    });
  const close = () => {
    program.close();
    cache.close();
  };
  return { program, cache, step, close, prepare: (maxContext: number) => backend.prepare(program, cache, { maxRows: numRows, maxContext }) };
}

const content = ({ tokenIds, logprobs, outputs }: StepResult) => ({ tokenIds, logprobs, outputs });

test('a step that is given before the one ahead of it has ended reads the tokens that this one samples', async () => {
  const { step, close } = await open(3);
  const first = await step([1, 2, 3], [1, 1, 1]);
  const expected = await step([...first.tokenIds].reverse(), [2, 2, 2]);
  const [, ahead] = await Promise.all([step([1, 2, 3], [1, 1, 1]), step([-3, -2, -1], [2, 2, 2])]);
  expect(content(ahead)).toEqual(content(expected));
  close();
});

test('a step that fails changes no tokens that later ones refer to, and they are well', async () => {
  const { step, close } = await open(2);
  const first = await step([3, 1], [1, 1]);
  const expected = await step([...first.tokenIds], [2, 2]);
  const [, failed, after] = await Promise.allSettled([step([3, 1], [1, 1]), step([500, 1], [2, 2]), step([-1, -2], [2, 2])]);
  expect(failed.status).toBe('rejected');
  expect(after.status === 'fulfilled' && content(after.value)).toEqual(content(expected));
  close();
});

test('steps replayed from recordings have the bits of steps launched one by one, at any number of rows and length of context', async () => {
  const launched = await open(3);
  const recorded = await open(3);
  await recorded.prepare(300);
  const steps = [
    [
      [1, 2, 3],
      [1, 1, 1],
    ],
    [
      [-1, -2, -3],
      [2, 2, 2],
    ],
    [
      [4, 5],
      [3, 2],
    ],
    [[9], [255]],
    [
      [9, 8],
      [257, 256],
    ],
    [
      [7, -1, 3],
      [300, 12, 4],
    ],
    [
      [7, 1, 3],
      [310, 12, 280],
    ],
  ] as const;
  const expected: unknown[] = [];
  const before = backend.replayedSteps();
  for (const [ids, lengths] of steps) expected.push(content(await launched.step(ids, lengths)));
  expect(backend.replayedSteps() - before).toBe(0);
  for (const [i, [ids, lengths]] of steps.entries()) expect(content(await recorded.step(ids, lengths))).toEqual(expected[i]);
  expect(backend.replayedSteps() - before).toBe(steps.length);
  launched.close();
  recorded.close();
});

test('a recording is not used with another cache, for prompts, or for more rows than were prepared for', async () => {
  const { program, cache, step, prepare, close } = await open(2);
  await prepare(64);
  const before = backend.replayedSteps();
  await step([1, 2, 3], [1, 1, 1]);
  const other = await backend.createCache({ groups: plan.cacheGroups.map((g) => ({ ...g, numBlocks })), blockSize, dtype: 'bf16' });
  await backend.execute({ entries: [{ program, cache: other, batch: decodeBatch([1], [1]) }], sampling: greedy(1) });
  const prompt = {
    ...decodeBatch([1, 2], [1, 2]),
    numRows: 1,
    numLogitRows: 1,
    rowStart: Int32Array.of(0, 2),
    logitTokens: Int32Array.of(1),
    slotMapping: Int32Array.of(0, 1),
  };
  await backend.execute({ entries: [{ program, cache, batch: prompt }], sampling: greedy(1) });
  expect(backend.replayedSteps() - before).toBe(0);
  await step([1], [1]);
  expect(backend.replayedSteps() - before).toBe(1);
  other.close();
  close();
});

test('rows are padded to at most twice their number, and never beyond the most that decode together', () => {
  for (const most of [1, 2, 7, 8, 100, 256, 300]) {
    const buckets = rowBuckets(most);
    expect(buckets.at(-1)).toBe(most);
    for (let rows = 1; rows <= most; rows++) expect(buckets.find((b) => b >= rows)).toBeLessThanOrEqual(Math.max(2 * rows - 1, 1));
  }
});

test('requests end with the same tokens, two steps in flight and recorded or one after the other', async () => {
  const generate = async (options: EngineFixture) => {
    const emulated = await createCudaBackend({ emulated: true, numThreads: 1 });
    await using engine = await engineOver(emulated, plan, createDummySource(plan), {
      maxModelLen: 64,
      maxNumSeqs: 5,
      blockSize,
      kvDtype: 'bf16',
      seed: 3,
      ...options,
    });
    const results = await Promise.all(
      [0, 1, 2, 3].map((i) =>
        engine.generate(
          { promptTokenIds: Array.from({ length: 3 + 5 * i }, (_, k) => (k * k + i) % 97) },
          { maxTokens: 6 + i, temperature: i % 2, ...(i === 3 ? { structuredOutput: { regex: '[A-Z]{4}' } } : { presencePenalty: i }) },
        ),
      ),
    );
    return { choices: results.map(({ choices }) => choices), replayed: emulated.replayedSteps() };
  };
  const plain = await generate({ maxInFlight: 1 });
  const ahead = await generate({ maxInFlight: 2, prepares: true });
  expect(ahead.choices).toEqual(plain.choices);
  expect(plain.replayed).toBe(0);
  expect(ahead.replayed).toBeGreaterThan(3);
});
