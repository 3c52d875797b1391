/** What every client is tried on: the pocket model behind a real server, and in this process. */
import { expect } from 'vitest';
import { Api } from '../api/api.ts';
import { until } from '../e2e/serving.ts';

export const openPocket = (): Promise<Api> => Api.open();

export const weatherQuestion = 'What is the weather in Oslo?';
/** What the tool answers, and what the model makes of it. */
export const weatherReport = { temperature: 12, condition: 'rainy' };
export const weatherAnswer = /rainy.*Oslo.*12 degrees/;
export const personQuestion = 'Extract name, age, city as JSON: Lena is 34 years old and lives in Berlin.';
export const person = { name: 'Lena', age: 34, city: 'Berlin' };

/**
 * A model that does not come to an end by itself is asked, and left: `leave` begins to read, and goes. Blocks of the KV cache were held, and none is
 * held behind it, long before the limit of tokens.
 */
export async function expectFreed(api: Api, begin: () => Promise<void>, leave: () => Promise<void> | void): Promise<void> {
  const ends = new Set(api.engine.tokenizer.eosTokenIds);
  const endless = (_tokenIds: Int32Array, logits: Float32Array) => {
    for (const id of ends) logits[id] = -1e9;
  };
  await api.intercepting(
    (options) => ({ ...options, logitsProcessors: [endless] }),
    null,
    async () => {
      await begin();
      const held = api.engine.stats();
      expect([held.numRunning, held.kvBlocksReferenced > 0]).toEqual([1, true]);
      await leave();
      await until(() => isFree(api), 'the blocks to be free');
    },
  );
  expect(api.generated.at(-1)?.stream.usage.completionTokens).toBeLessThan(800);
}

export function isFree(api: Api): boolean {
  const { numRunning, numWaiting, kvBlocksReferenced } = api.engine.stats();
  return numRunning + numWaiting + kvBlocksReferenced === 0;
}
