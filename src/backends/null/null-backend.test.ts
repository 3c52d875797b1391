import { expect, test } from 'vitest';
import { decoderPlan } from '../../../test/fixtures/decoder.ts';
import { type Chunk, greedy, TestRows } from '../../../test/fixtures/rows.ts';
import { VirtualClock } from '../../base/clock.ts';
import type { ForwardBatch, Step } from '../backend.ts';
import { expectedToken, NullBackend, type NullBackendOptions } from './null-backend.ts';

const plan = decoderPlan({ window: 20 });
const VOCAB = 97;

async function open(options: NullBackendOptions = {}) {
  const backend = new NullBackend(options);
  const program = await backend.compile(plan, null, { maxTokens: 64, maxLogitRows: 8 });
  const rows = new TestRows(plan.cacheGroups);
  const cache = await backend.createCache(rows.spec);
  const run = (chunks: Chunk[], change: Partial<ForwardBatch> = {}, more: Partial<Step> = {}) =>
    backend.execute({ entries: [{ program, cache, batch: { ...rows.batch(chunks), ...change } }], sampling: greedy(chunks.length), ...more });
  return { backend, rows, run };
}

test('a token depends on its whole context, however it was chunked', async () => {
  const { run } = await open();
  await run([{ row: 0, tokenIds: [1, 2, 3] }]);
  const { tokenIds } = await run([
    { row: 0, tokenIds: [4, 5] },
    { row: 1, tokenIds: [9] },
  ]);
  expect([...tokenIds]).toEqual([expectedToken([1, 2, 3, 4, 5], VOCAB), expectedToken([9], VOCAB)]);
  const next = await run([{ row: 0, tokenIds: [-2] }]);
  expect(next.tokenIds[0]).toBe(expectedToken([1, 2, 3, 4, 5, expectedToken([9], VOCAB)], VOCAB));
});

test('a seed changes tokens', async () => {
  const { run } = await open();
  const { tokenIds } = await run([{ row: 0, tokenIds: [1] }], {}, { sampling: greedy(1, { seed: Uint32Array.of(7, 8) }) });
  expect(tokenIds[0]).toBe(expectedToken([1], VOCAB, [7, 8]));
  expect(tokenIds[0]).not.toBe(expectedToken([1], VOCAB));
});

test('a visible key that was never written, or belongs elsewhere, fails the step', async () => {
  const { run } = await open();
  await run([{ row: 0, tokenIds: Array.from({ length: 17 }, () => 3) }]);
  await expect(run([{ row: 0, tokenIds: [1] }], { blockTables: Int32Array.of(5, 6, 5, 6) })).rejects.toThrow(/sees key 0 .* nothing was written/);
});

test('two tokens that write one slot fail the step', async () => {
  const { run } = await open();
  await expect(run([{ row: 0, tokenIds: [1, 2] }], { slotMapping: Int32Array.of(4, 4, 4, 4) })).rejects.toThrow('two tokens write slot 4');
});

test('forbidden ids are not sampled, and a row with none left is reported', async () => {
  const { run } = await open({ token: () => 10 });
  const bias = { biasIds: Int32Array.of(10), biasValues: Float32Array.of(-Infinity), biasStart: Int32Array.of(0, 1) };
  expect((await run([{ row: 0, tokenIds: [1] }], {}, { sampling: greedy(1, bias) })).tokenIds[0]).toBe(11);
  const host = { needsLogits: false, deadlineMs: 100, process: async () => new Uint32Array(4) };
  expect((await run([{ row: 0, tokenIds: [1] }], {}, { host })).corrupted[0]).toBe(2);
});

test('the cost model moves a virtual clock', async () => {
  const clock = new VirtualClock();
  const { run } = await open({ stepMs: ({ numTokens }) => 5 + numTokens, wait: async (ms) => clock.advance(ms) });
  const { forwardMs } = await run([{ row: 0, tokenIds: [1, 2] }]);
  expect([forwardMs, clock.nowMs()]).toEqual([7, 7]);
});
