/** Clients that leave over HTTP; `bench/disconnects.ts` does the same with 10,000 and on a model of real size. */
import { expect, test } from 'vitest';
import { nullEngine } from '../fixtures/engine.ts';
import { leavingStages, serveLeavingClients } from '../fixtures/leaving-clients.ts';

test('400 requests, beam searches among them, of which 30 % are left at every stage, in a pool that runs out, leave nothing behind', async () => {
  const engine = await nullEngine({ maxNumSeqs: 16, maxNumBatchedTokens: 64, blockSize: 8, numBlocks: 80, maxModelLen: 256, maxQueue: 1000 });
  const crowd = { requests: 400, concurrency: 32, leaving: 0.3, maxPromptTokens: 60, maxOutputTokens: 40, vocabSize: 97 };
  const { finished, left, searches, held, heapBytes } = await serveLeavingClients(engine, crowd);
  expect(held).toEqual({ blocks: 0, streams: 0, running: 0, waiting: 0, connections: 0 });
  expect(heapBytes.after - heapBytes.before).toBeLessThan(4 * 2 ** 20);
  for (const stage of leavingStages) expect(left[stage], stage).toBeGreaterThan(3);
  expect(finished).toBeGreaterThan(250);
  expect(searches).toBeGreaterThan(20);
  expect(engine.stats().numPreemptions).toBeGreaterThan(0);
  await engine.close();
});
