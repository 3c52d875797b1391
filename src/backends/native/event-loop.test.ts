import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, test } from 'vitest';
import { decoderPlan } from '../../../test/fixtures/decoder.ts';
import { greedy, TestRows } from '../../../test/fixtures/rows.ts';
import { createDummySource } from '../../weights/dummy-source.ts';
import type { Step } from '../backend.ts';
import { createNativeBackend } from './native-backend.ts';

// Two threads compute, as by default on a small machine: the event loop has to get its share of the processors all the same.
const backend = await createNativeBackend({ numThreads: 2 }).catch(() => null);
afterAll(() => backend?.close());

/** Qwen2.5-0.5B with random weights: large enough that a step takes many milliseconds. */
const plan = decoderPlan({
  numLayers: 24,
  hiddenSize: 896,
  numHeads: 14,
  numKvHeads: 2,
  headDim: 64,
  intermediateSize: 4864,
  vocabSize: 151_936,
  format: 'bf16',
  activation: 'bf16',
  bias: true,
});

/** Time in ms that this thread has been ready to run and had no processor, as the Linux scheduler counts it; 0 elsewhere. */
function waitedForProcessorMs(): number {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}

/**
 * Longest time in ms by which a timer was late while `work` ran. Timers, not a busy loop: as a server does, the thread mostly sleeps. What other
 * programs take from it is not counted: with their processors taken, nobody is in time.
 */
async function longestDelay(work: Promise<unknown>): Promise<number> {
  let running = true;
  const done = work.finally(() => {
    running = false;
  });
  let longestMs = 0;
  while (running) {
    const start = performance.now() - waitedForProcessorMs();
    await sleep(1);
    longestMs = Math.max(longestMs, performance.now() - waitedForProcessorMs() - start - 1);
  }
  await done;
  return longestMs;
}

const median = (values: number[]) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

describe.skipIf(backend === null)('while a step of the 0.5B shape runs', () => {
  test('the event loop is not blocked over 5 ms, in prefill and in decode', { timeout: 300_000 }, async () => {
    if (backend === null) return;
    const rows = new TestRows(plan.cacheGroups, { numBlocks: 64, dtype: 'bf16' });
    const program = await backend.compile(plan, createDummySource(plan), { maxTokens: 256, maxLogitRows: 8 });
    const cache = await backend.createCache(rows.spec);
    const prompt = Array.from({ length: 192 }, (_, i) => (i * 7919) % 151_936);
    const step = (chunks: Parameters<TestRows['batch']>[0]): Step => ({
      entries: [{ program, cache, batch: rows.batch(chunks) }],
      sampling: greedy(chunks.length, { temperature: new Float32Array(chunks.length).fill(1) }),
    });
    const delays: number[] = [];
    for (let i = 0; i < 9; i++) {
      const chunks = i < 3 ? [{ row: i, tokenIds: prompt }] : [0, 1, 2].map((row) => ({ row, tokenIds: [i] }));
      const result = backend.execute(step(chunks));
      delays.push(await longestDelay(result));
      const { forwardMs, corrupted } = await result;
      expect(Math.max(...corrupted)).toBe(0);
      expect(forwardMs).toBeGreaterThan(5); // long enough that holding the loop would show
    }
    expect(median(delays)).toBeLessThan(5);
  });
});
