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

test('logits change when an earlier token does', async () => {
  const { logits } = await decoder({ numLayers: 1 });
  const changed = [(prompt[0] + 1) % 97, ...prompt.slice(1)];
  const [a] = await logits([[{ row: 0, tokenIds: prompt }]]);
  const [b] = await logits([[{ row: 0, tokenIds: changed }]]);
  expect(a).not.toEqual(b);
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
