import { expect, test } from 'vitest';
import { bodyPlan, type DecoderOptions, decoderPlan, headPlan } from '../../../test/fixtures/decoder.ts';
import { type Chunk, greedy, TestRows } from '../../../test/fixtures/rows.ts';
import { randomSource } from '../../../test/fixtures/weights.ts';
import type { Plan } from '../../plan/plan.ts';
import type { Step } from '../backend.ts';
import { ReferenceBackend } from './reference-backend.ts';

const limits = { maxTokens: 128, maxLogitRows: 128 };

async function decoder(options: Partial<DecoderOptions> = {}) {
  const backend = new ReferenceBackend();
  const plan = decoderPlan(options);
  const program = await backend.compile(plan, randomSource(plan), limits);
  const rowsOf = (scatter = 7) => new TestRows(plan.cacheGroups, { scatter });
  /** Logits of the step's logit rows, after running these chunks one step after another. */
  const logits = async (steps: Chunk[][], rows = rowsOf()): Promise<Float32Array[]> => {
    const cache = await backend.createCache(rows.spec);
    const all: Float32Array[] = [];
    for (const chunks of steps) {
      const batch = rows.batch(chunks);
      const { outputs } = await backend.execute({ entries: [{ program, cache, batch }], sampling: null, readOutputs: ['logits'] });
      all.push(outputs.logits);
    }
    return all;
  };
  return { backend, plan, program, rowsOf, logits };
}

const prompt = Array.from({ length: 40 }, (_, i) => (i * 31 + 5) % 97);

test('a prompt gives the same logits bit for bit whole, in chunks, and among other rows', async () => {
  const { logits, rowsOf } = await decoder({ window: 20, bias: true, qkNorm: true, activation: 'bf16', attentionSoftCap: 30, sinks: true });
  const [whole] = await logits([[{ row: 0, tokenIds: prompt }]]);
  const ones = await logits(prompt.map((id) => [{ row: 0, tokenIds: [id] }]));
  const sevens = await logits(Array.from({ length: 6 }, (_, i) => [{ row: 0, tokenIds: prompt.slice(7 * i, 7 * i + 7) }]));
  const among = await logits(
    [[...[1, 2, 3].map((row) => ({ row, tokenIds: prompt.slice(row, 20 + row) })), { row: 0, tokenIds: prompt }]],
    rowsOf(55),
  );
  expect(ones.at(-1)).toEqual(whole);
  expect(sevens.at(-1)).toEqual(whole);
  expect(among[0].subarray(3 * 97)).toEqual(whole);
});

test('logits change when an earlier token does', async () => {
  const { logits } = await decoder({ numLayers: 1 });
  const changed = [(prompt[0] + 1) % 97, ...prompt.slice(1)];
  const [a] = await logits([[{ row: 0, tokenIds: prompt }]]);
  const [b] = await logits([[{ row: 0, tokenIds: changed }]]);
  expect(a).not.toEqual(b);
});

test('a negative token id stands for the token that the previous step sampled for that row', async () => {
  const { backend, program, rowsOf } = await decoder();
  const rows = rowsOf();
  const cache = await backend.createCache(rows.spec);
  const run = (chunks: Chunk[], sampling: Step['sampling']) =>
    backend.execute({ entries: [{ program, cache, batch: rows.batch(chunks) }], sampling, readOutputs: ['logits'] });
  const first = await run(
    [0, 1].map((row) => ({ row, tokenIds: prompt.slice(row, 9) })),
    greedy(2),
  );
  const [, byName] = [0, await run([{ row: 0, tokenIds: [-2] }], greedy(1))];
  const again = rowsOf();
  const otherCache = await backend.createCache(again.spec);
  const batches = [
    again.batch([0, 1].map((row) => ({ row, tokenIds: prompt.slice(row, 9) }))),
    again.batch([{ row: 0, tokenIds: [first.tokenIds[1]] }]),
  ];
  await backend.execute({ entries: [{ program, cache: otherCache, batch: batches[0] }], sampling: null });
  const byId = await backend.execute({ entries: [{ program, cache: otherCache, batch: batches[1] }], sampling: null, readOutputs: ['logits'] });
  expect(byName.outputs.logits).toEqual(byId.outputs.logits);
});

test('a negative token id that names no sampled row fails the step', async () => {
  const { backend, program, rowsOf } = await decoder();
  const rows = rowsOf();
  const cache = await backend.createCache(rows.spec);
  const step = { entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: [-1] }]) }], sampling: null };
  await expect(backend.execute(step)).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
});

test('programs of one source share weights by name and read each once', async () => {
  const backend = new ReferenceBackend();
  const plans: Plan[] = [decoderPlan(), bodyPlan(), headPlan()];
  const source = randomSource(plans);
  for (const plan of plans) await backend.compile(plan, source, limits);
  expect([...source.reads.values()].every((times) => times === 1)).toBe(true);
});

test('a plan cut in two programs gives the logits of the whole bit for bit, in one step', async () => {
  const backend = new ReferenceBackend();
  const [whole, body, head] = [decoderPlan(), bodyPlan(), headPlan()];
  const source = randomSource([whole, body, head]);
  const programs = await Promise.all([whole, body, head].map((plan) => backend.compile(plan, source, limits)));
  const rows = new TestRows(whole.cacheGroups);
  const batch = rows.batch([{ row: 0, tokenIds: prompt, logits: 'all' }]);
  const [cache, cacheOfBody] = [await backend.createCache(rows.spec), await backend.createCache(rows.spec)];
  const expected = await backend.execute({
    entries: [{ program: programs[0], cache, batch }],
    sampling: greedy(40),
    readOutputs: ['logits', 'hidden'],
  });
  const entries = [
    { program: programs[1], cache: cacheOfBody, batch },
    { program: programs[2], cache: null, batch, embeddings: { entry: 0, output: 'hidden' } },
  ];
  const split = await backend.execute({ entries, sampling: greedy(40), readOutputs: ['logits'] });
  expect(split.outputs.logits).toEqual(expected.outputs.logits);
  expect(split.tokenIds).toEqual(expected.tokenIds);
  const fromHost = [{ program: programs[2], cache: null, batch, embeddings: expected.outputs.hidden }];
  const third = await backend.execute({ entries: fromHost, sampling: null, readOutputs: ['logits'] });
  expect(third.outputs.logits).toEqual(expected.outputs.logits);
});

test('copied blocks hold what the source held, before the step runs', async () => {
  const { backend, program, rowsOf } = await decoder();
  const rows = rowsOf();
  const cache = await backend.createCache(rows.spec);
  await backend.execute({ entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: prompt.slice(0, 20) }]) }], sampling: null });
  const next = await backend.execute({
    entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: [3] }]) }],
    sampling: null,
    readOutputs: ['logits'],
  });
  const twin = rowsOf();
  twin.lengths[1] = 20;
  twin.blocks[1] = [rows.blocks[0][0], 60]; // the first block is shared, the second copied
  const batch = { ...twin.batch([{ row: 1, tokenIds: [3] }]), copies: Int32Array.of(0, rows.blocks[0][1], 60, 4), numCopies: 1 };
  const copied = await backend.execute({ entries: [{ program, cache, batch }], sampling: null, readOutputs: ['logits'] });
  expect(copied.outputs.logits).toEqual(next.outputs.logits);
});

test('draft tokens that name their ancestors give the logits of the linear computation bit for bit', async () => {
  const { backend, program, rowsOf, logits } = await decoder({ window: 20 });
  const context = prompt.slice(0, 30);
  // Two branches after the context: a-b-c and a-d; token order in the batch is a, b, d, c.
  const [a, b, c, d] = [11, 22, 33, 44];
  const linear = async (ids: number[]) => (await logits([[{ row: 0, tokenIds: [...context, ...ids] }]]))[0];
  const rows = rowsOf();
  const cache = await backend.createCache(rows.spec);
  await backend.execute({ entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: context }]) }], sampling: null });
  const plain = rows.batch([{ row: 0, tokenIds: [a, b, d, c], logits: 'all' }]);
  const [slotA, slotB, slotD, slotC] = plain.slotMapping;
  const slots = [slotA, slotA, slotB, slotA, slotD, slotA, slotB, slotC];
  const batch = {
    ...plain,
    positions: Int32Array.of(30, 31, 31, 32),
    cacheIndex: Int32Array.of(30, 31, 31, 32),
    visibleEnd: Int32Array.of(30, 30, 30, 30),
    ancestors: { start: Int32Array.of(0, 1, 3, 5, 8), slots: Int32Array.from([...slots, ...slots]) },
  };
  const { outputs } = await backend.execute({ entries: [{ program, cache, batch }], sampling: null, readOutputs: ['logits'] });
  const row = (i: number) => outputs.logits.subarray(97 * i, 97 * (i + 1));
  expect(row(0)).toEqual(await linear([a]));
  expect(row(1)).toEqual(await linear([a, b]));
  expect(row(2)).toEqual(await linear([a, d]));
  expect(row(3)).toEqual(await linear([a, b, c]));
});

test('the host stage sees the logits, changes them and masks tokens before sampling', async () => {
  const { backend, program, rowsOf } = await decoder();
  const rows = rowsOf();
  const cache = await backend.createCache(rows.spec);
  const step = (host: Step['host']): Step => ({
    entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: [5] }]) }],
    sampling: greedy(1),
    ...(host === undefined ? {} : { host }),
  });
  const prefer42 = async (logits: Float32Array | null) => {
    logits!.fill(0)[42] = 1;
    return null;
  };
  const forced = await backend.execute(step({ needsLogits: true, deadlineMs: 1000, process: prefer42 }));
  expect(forced.tokenIds[0]).toBe(42);
  const mask = new Uint32Array(4);
  mask[2] = 1 << 3; // id 67
  const masked = await backend.execute(step({ needsLogits: false, deadlineMs: 1000, process: async (logits) => (logits === null ? mask : null) }));
  expect(masked.tokenIds[0]).toBe(67);
  const nothing = await backend.execute(step({ needsLogits: false, deadlineMs: 1000, process: async () => new Uint32Array(4) }));
  expect(nothing.corrupted[0]).toBe(2);
});

test('a host stage that rejects or is late fails the step and leaves the backend usable', async () => {
  const { backend, program, rowsOf } = await decoder();
  const rows = rowsOf();
  const cache = await backend.createCache(rows.spec);
  const run = (host: NonNullable<Step['host']>) =>
    backend.execute({ entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: [5] }]) }], sampling: greedy(1), host });
  const never = new Promise<null>(() => undefined);
  await expect(run({ needsLogits: false, deadlineMs: 5, process: () => never })).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
  await expect(run({ needsLogits: false, deadlineMs: 99, process: () => Promise.reject(new Error('grammar')) })).rejects.toThrow('grammar');
  await expect(run({ needsLogits: false, deadlineMs: 1000, process: async () => null })).resolves.toMatchObject({ corrupted: Uint8Array.of(0) });
});

test('a step that breaks a rule of the batch is refused with its complaint', async () => {
  const { backend, program, rowsOf } = await decoder();
  const rows = rowsOf();
  const cache = await backend.createCache(rows.spec);
  const good = rows.batch([{ row: 0, tokenIds: [5, 6, 7] }]);
  const broken: [string, object][] = [
    ['token 0 has id 97', { tokenIds: Int32Array.of(97, 1, 1) }],
    ['token 2 goes to slot', { slotMapping: Int32Array.of(0, 1, 1 << 20) }],
    ['row 0 sees 999 keys', { visibleEnd: Int32Array.of(1, 2, 999) }],
    ['row 0 sees block -1', { blockTables: Int32Array.of(-1) }],
    ['logit row 0 follows token 3', { logitTokens: Int32Array.of(3) }],
    ['rows cover', { rowStart: Int32Array.of(0, 2) }],
    ['999 tokens', { numTokens: 999 }],
    ['copy 0', { copies: Int32Array.of(0, 0, 64, 1), numCopies: 1 }],
  ];
  for (const [complaint, change] of broken) {
    const step = { entries: [{ program, cache, batch: { ...good, ...change } }], sampling: null };
    await expect(backend.execute(step), complaint).rejects.toThrow(complaint);
  }
});
