import { afterEach, expect, test } from 'vitest';
import { decoderPlan } from '../../../test/fixtures/decoder.ts';
import { greedy, TestRows } from '../../../test/fixtures/rows.ts';
import { randomSource } from '../../../test/fixtures/weights.ts';
import type { Backend, Step } from '../backend.ts';
import { ReferenceBackend } from './reference-backend.ts';
import { WorkerReferenceBackend } from './worker-backend.ts';

const limits = { maxTokens: 64, maxLogitRows: 64 };
const plan = decoderPlan();
const opened: Backend[] = [];

afterEach(async () => {
  for (const backend of opened.splice(0)) await backend.close();
});

async function open(backend: Backend) {
  opened.push(backend);
  const program = await backend.compile(plan, randomSource(plan), limits);
  const rows = new TestRows(plan.cacheGroups);
  const cache = await backend.createCache(rows.spec);
  const step = (more: Partial<Step> = {}): Step => ({
    entries: [{ program, cache, batch: rows.batch([{ row: 0, tokenIds: [5, 6, 7], logits: 'all' }]) }],
    sampling: greedy(3, { numLogprobs: Int32Array.of(2, 0, -1) }),
    ...more,
  });
  return { backend, program, cache, step };
}

test('a worker gives what the reference backend gives in this thread', async () => {
  const here = await open(new ReferenceBackend());
  const there = await open(new WorkerReferenceBackend());
  for (let i = 0; i < 3; i++) {
    const [a, b] = await Promise.all([here, there].map(({ backend, step }) => backend.execute(step({ readOutputs: ['logits'] }))));
    expect({ ...b, forwardMs: 0, sampleMs: 0 }).toEqual({ ...a, forwardMs: 0, sampleMs: 0 });
  }
  expect(there.program.weightBytes).toBe(here.program.weightBytes);
});

test('the event loop turns while a worker computes', async () => {
  const { backend, step } = await open(new WorkerReferenceBackend());
  let turns = 0;
  let running = true;
  const turn = () => {
    turns++;
    if (running) setImmediate(turn);
  };
  turn();
  await backend.execute(step());
  running = false;
  expect(turns).toBeGreaterThan(1);
});

test('a host stage runs in the main thread and its changes reach the worker', async () => {
  const { backend, step } = await open(new WorkerReferenceBackend());
  const prefer42 = async (logits: Float32Array | null) => {
    logits?.fill(0).fill(1, 42, 43);
    return null;
  };
  const host = { needsLogits: true, deadlineMs: 5000, process: prefer42 };
  expect((await backend.execute(step({ host }))).tokenIds[0]).toBe(42);
  const failing = { ...host, process: () => Promise.reject(new Error('grammar')) };
  await expect(backend.execute(step({ host: failing }))).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
});

test('a failing step rejects with its code, and the next one runs', async () => {
  const { backend, step } = await open(new WorkerReferenceBackend());
  const [entry] = step().entries;
  const wrong = { ...entry, batch: { ...entry.batch, tokenIds: Int32Array.of(999, 1, 1) } };
  await expect(backend.execute({ entries: [wrong], sampling: null })).rejects.toMatchObject({ code: 'BACKEND_STEP_FAILED' });
  await expect(backend.execute(step())).resolves.toBeDefined();
});

test('a missing tensor is reported by name from compile', async () => {
  const backend = new WorkerReferenceBackend();
  opened.push(backend);
  const source = { ...randomSource(plan), find: () => undefined };
  await expect(backend.compile(plan, source, limits)).rejects.toMatchObject({ code: 'WEIGHTS_TENSOR_MISSING' });
});

test('steps in flight when a worker is closed reject', async () => {
  const { backend, step } = await open(new WorkerReferenceBackend());
  const inFlight = backend.execute(step());
  const outcome = inFlight.then(
    () => 'resolved',
    (error) => error.code,
  );
  await backend.close();
  expect(['ENGINE_CLOSED', 'resolved']).toContain(await outcome);
  await expect(backend.execute(step())).rejects.toMatchObject({ code: 'ENGINE_CLOSED' });
});
