/** Two steps in flight give what one gives, token for token, and leave the backend no pause between steps. */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type EngineFixture, nullEngine } from '../../test/fixtures/engine.ts';
import type { MillraceError } from '../base/errors.ts';
import type { SamplingParams } from '../sampling/params.ts';

interface Asked {
  readonly prompt: readonly number[];
  readonly params: SamplingParams;
}

async function generateAll(asked: readonly Asked[], options: EngineFixture): Promise<unknown[]> {
  await using engine = await nullEngine(options);
  const results = await Promise.all(asked.map(({ prompt, params }) => engine.generate({ promptTokenIds: prompt }, params)));
  engine.scheduler.checkInvariants();
  expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
  return results.map(({ choices, usage }) => ({ choices, usage: { ...usage, cachedTokens: 0 } }));
}

const asked = fc.record({
  prompt: fc.array(fc.nat(96), { minLength: 1, maxLength: 40 }),
  params: fc.record({
    maxTokens: fc.integer({ min: 1, max: 24 }),
    seed: fc.nat(5),
    n: fc.constantFrom(1, 1, 1, 3),
    minTokens: fc.constantFrom(0, 0, 6),
    stopTokenIds: fc.constantFrom([], [3, 14, 15, 92, 65, 35]),
    stop: fc.constantFrom([], ['a', 'Z', '0']),
    presencePenalty: fc.constantFrom(0, 0, 1),
    logitBias: fc.constantFrom({}, { 5: -100 }),
    logprobs: fc.boolean(),
  }),
  regex: fc.constantFrom(null, null, null, '[A-Z]{3,9}( [0-9]{2}){1,3}'),
});

test('random requests end with the same tokens, texts and reasons, in pools that run out and in pools that do not', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(asked, { minLength: 1, maxLength: 12 }),
      fc.constantFrom(18, 200),
      fc.constantFrom(0, 7),
      async (drawn, numBlocks, window) => {
        const all = drawn.map(({ prompt, params, regex }) =>
          regex === null ? { prompt, params } : { prompt, params: { ...params, minTokens: 0, structuredOutput: { regex } } },
        );

        const options = { numBlocks, window, maxModelLen: 70, maxNumBatchedTokens: 11, eosTokenIds: [7, 77], maxNumSeqs: 6 };
        const one = await generateAll(all, { ...options, maxInFlight: 1 });
        expect(await generateAll(all, { ...options, maxInFlight: 2 })).toEqual(one);
      },
    ),
    { numRuns: 60 },
  );
});

describe('with two steps in flight', () => {
  test('a step that fails ends its rows, a request that came after it is served', async () => {
    let numCalls = 0;
    const backend = {
      stepMs: () => 1,
      wait: async () => {
        await sleep(1);
        if (++numCalls === 4) throw new Error('planted');
      },
    };
    await using engine = await nullEngine({ maxInFlight: 2, backend });
    const code = (promise: PromiseLike<unknown>) => Promise.resolve(promise).then(String, (error: MillraceError) => error.code);
    const first = [engine.generate({ promptTokenIds: [1, 2] }, { maxTokens: 30 }), engine.generate({ promptTokenIds: [4] }, { maxTokens: 30 })];
    expect(await Promise.all(first.map(code))).toEqual(['BACKEND_STEP_FAILED', 'BACKEND_STEP_FAILED']);
    const after = await engine.generate({ promptTokenIds: [9, 8] }, { maxTokens: 5 });
    expect(after.choices[0].tokenIds).toHaveLength(5);
    engine.scheduler.checkInvariants();
    expect(engine.stats().kvBlocksReferenced).toBe(0);
  });

  test('requests that leave while two of their steps are in flight hold nothing afterwards, and disturb nobody', async () => {
    const options = { numBlocks: 40, backend: { stepMs: () => 1, wait: () => sleep(1) } };
    const alone = await nullEngine(options);
    const expected = (await alone.generate({ promptTokenIds: [5, 6, 7] }, { maxTokens: 40, seed: 1 })).choices[0].tokenIds;
    await alone.close();
    await using engine = await nullEngine({ ...options, maxInFlight: 2 });
    const kept = engine.generate({ promptTokenIds: [5, 6, 7] }, { maxTokens: 40, seed: 1 });
    for (let i = 0; i < 20; i++) {
      const leaving = engine.generate({ promptTokenIds: [i, i + 1, i + 2, 4] }, { maxTokens: 50 });
      leaving.then(undefined, () => {});
      await sleep(i % 5);
      leaving.abort();
    }
    expect((await kept).choices[0].tokenIds).toEqual(expected);
    engine.scheduler.checkInvariants();
    expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
  });

  test('the backend has its next step before it ends one, except where a sample is needed first', async () => {
    for (const [maxInFlight, presencePenalty, least, most] of [
      [1, 0, 0, 0],
      [2, 0, 25, 40],
      [2, 1, 0, 0],
    ]) {
      let numQueued = 0;
      const engine = await nullEngine({ maxInFlight, backend: { stepMs: () => 2, wait: () => sleep(2) } });
      const { scheduler } = engine;
      const commit = scheduler.commit.bind(scheduler);
      scheduler.commit = (batch, tokenIds) => {
        if (scheduler.numInFlight === 2) numQueued++;
        return commit(batch, tokenIds);
      };
      await engine.generate({ promptTokenIds: [1, 2, 3] }, { maxTokens: 32, presencePenalty });
      expect(numQueued).toBeGreaterThanOrEqual(least);
      expect(numQueued).toBeLessThanOrEqual(most);
      await engine.close();
    }
  });
});
