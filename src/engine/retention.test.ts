/** Requests that do not keep all of their keys, on a backend whose tokens tell whether each row read its own context and nothing else. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decoderPlan } from '../../test/fixtures/decoder.ts';
import { engineOver, nullEngine } from '../../test/fixtures/engine.ts';
import { expectedToken, NullBackend, type NullBackendOptions } from '../backends/null/null-backend.ts';
import { ReferenceBackend } from '../backends/reference/reference-backend.ts';
import { PlanBuilder } from '../plan/builder.ts';
import { createDummySource } from '../weights/dummy-source.ts';
import type { RequestKvCache } from './engine.ts';
import type { LoadedEngine } from './loaded-engine.ts';

const VOCABULARY = 97;

function promptOf(length: number, seed = 1): number[] {
  return Array.from({ length }, (_, i) => (i * i * 3 + i * seed + seed) % VOCABULARY);
}

/** What a right engine generates. */
function expectedTokens(prompt: readonly number[], count: number): number[] {
  const all = [...prompt];
  for (let i = 0; i < count; i++) all.push(expectedToken(all, VOCABULARY));
  return all.slice(prompt.length);
}

/** Runs `check` before each step. */
function watched(check: () => void): NullBackendOptions {
  return {
    stepMs: () => {
      check();
      return 0;
    },
  };
}

describe('a window of the last tokens', () => {
  test('goes on past the context, holds a bounded number of blocks all the while, and leaves nothing behind', async () => {
    let engine: LoadedEngine | null = null;
    let most = 0;
    const backend = watched(() => {
      engine?.scheduler.checkInvariants();
      most = Math.max(most, engine?.scheduler.kv.numReferenced ?? 0);
      expect(engine?.scheduler.kv.numCached).toBe(0);
    });
    engine = await nullEngine({ backend, blockSize: 4, numBlocks: 64, maxModelLen: 128, rebaseTokens: 64 });
    const prompt = promptOf(90);
    const maxTokens = 700;
    const result = await engine.generate({ promptTokenIds: prompt }, { maxTokens, temperature: 0, seed: 0 }, { kvCache: { sinks: 6, window: 21 } });
    expect(result.choices[0].tokenIds).toEqual(expectedTokens(prompt, maxTokens));
    // two blocks of sinks, twice; the window with what it shares of a block at either end
    expect(most).toBe(2 + 2 + Math.ceil((21 - 1 + 4) / 4));
    expect(engine.scheduler.kv.numFree).toBe(engine.scheduler.kv.numBlocks);
    expect(engine.scheduler.kv.numNodes).toBeLessThanOrEqual(1);
    await engine.close();
  });

  test('takes a prompt that is longer than the context; without max_tokens it generates what others would', async () => {
    const engine = await nullEngine({ blockSize: 4, numBlocks: 64, maxModelLen: 64 });
    const prompt = promptOf(200);
    const { choices } = await engine.generate({ promptTokenIds: prompt }, { temperature: 0, seed: 0 }, { kvCache: { window: 16 } });
    expect(choices[0].tokenIds).toEqual(expectedTokens(prompt, 1));
    const short = await engine.generate({ promptTokenIds: promptOf(10) }, { temperature: 0 }, { kvCache: { window: 16 } });
    expect(short.usage.completionTokens).toBe(54);
    await expect(engine.generate({ promptTokenIds: prompt })).rejects.toMatchObject({ code: 'PROMPT_TOO_LONG' });
    await engine.close();
  });

  test('what leaves is free in the step in which it leaves', async () => {
    let engine: LoadedEngine | null = null;
    const held: number[] = [];
    const backend = watched(() => void held.push(engine?.scheduler.kv.numReferenced ?? 0));
    engine = await nullEngine({ backend, blockSize: 4, numBlocks: 64, maxModelLen: 128, maxNumBatchedTokens: 64, maxInFlight: 1 });
    await engine.generate({ promptTokenIds: promptOf(20) }, { maxTokens: 40, temperature: 0 }, { kvCache: { sinks: 0, window: 16 } });
    // the window of 16 spans 5 blocks at most; a new one is taken as an old one goes
    expect(Math.max(...held)).toBe(5);
    expect(held.slice(8).every((count) => count === 4 || count === 5)).toBe(true);
    await engine.close();
  });
});

describe('a compressed prompt', () => {
  test('gives back what it does not keep in the step after the one that moves it', async () => {
    let engine: LoadedEngine | null = null;
    const held: number[] = [];
    const backend = watched(() => {
      engine?.scheduler.checkInvariants();
      held.push(engine?.scheduler.kv.numReferenced ?? 0);
    });
    engine = await nullEngine({ backend, blockSize: 4, numBlocks: 64, maxNumBatchedTokens: 256, maxInFlight: 1 });
    const prompt = promptOf(100);
    const kvCache = { compressPrompt: 30, observationWindow: 8, kernel: 5 };
    const { choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 12, temperature: 0, seed: 0 }, { kvCache });
    expect(choices[0].tokenIds).toEqual(expectedTokens(prompt, 12));
    // the prompt; the step that moves it and computes a token (two entries); then 30 tokens and what is generated
    expect(held.slice(0, 5)).toEqual([25, 25, 25, 8, 9]);
    expect(engine.scheduler.kv.numFree).toBe(64);
    expect(engine.scheduler.kv.numCached).toBe(0);
    await engine.close();
  });

  test('a prompt that is not longer than what stays is a request like any other', async () => {
    const engine = await nullEngine({ blockSize: 4, numBlocks: 64 });
    await engine.generate({ promptTokenIds: promptOf(20) }, { maxTokens: 3, temperature: 0 }, { kvCache: { compressPrompt: 64 } });
    expect(engine.scheduler.kv.numCached).toBeGreaterThan(0);
    await engine.close();
  });
});

test('nobody shares with such a request, waits for it or is found by it', async () => {
  const engine = await nullEngine({ blockSize: 4, numBlocks: 128, maxNumBatchedTokens: 16 });
  const prompt = promptOf(60);
  await engine.generate({ promptTokenIds: prompt }, { maxTokens: 1, temperature: 0 });
  const cached = engine.scheduler.kv.numCached;
  for (const kvCache of [{ window: 16 }, { compressPrompt: 32, observationWindow: 4 }]) {
    const { usage, choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 5, temperature: 0, seed: 0, n: 3 }, { kvCache });
    expect(usage.cachedTokens).toBe(0);
    expect(choices).toHaveLength(3);
    expect(engine.scheduler.kv.numCached).toBe(cached);
  }
  const other = promptOf(60, 5);
  const windowed = engine.generate({ promptTokenIds: other }, { maxTokens: 40, temperature: 0 }, { kvCache: { window: 16 } });
  await windowed.admitted;
  const plain = await engine.generate({ promptTokenIds: other }, { maxTokens: 2, temperature: 0, seed: 0 });
  expect(plain.choices[0].tokenIds).toEqual(expectedTokens(other, 2));
  expect(plain.usage.cachedTokens).toBe(0);
  await windowed;
  await engine.close();
});

const kvCaches: fc.Arbitrary<RequestKvCache | undefined> = fc.oneof(
  fc.constant(undefined),
  fc.record({ sinks: fc.integer({ min: 0, max: 9 }), window: fc.integer({ min: 2, max: 24 }) }),
  fc.record({ compressPrompt: fc.integer({ min: 6, max: 40 }), observationWindow: fc.integer({ min: 1, max: 5 }), kernel: fc.constantFrom(1, 3, 7) }),
);
const requests = fc.record({
  prompt: fc.integer({ min: 5, max: 50 }),
  maxTokens: fc.integer({ min: 20, max: 50 }),
  seed: fc.integer({ min: 1, max: 3 }),
  kvCache: kvCaches,
  abortAfter: fc.option(fc.integer({ min: 0, max: 20 }), { freq: 4 }),
});

test('whatever else runs, is stopped or has to give way, each reads its own context, and every block comes back', async () => {
  const lives = fc.asyncProperty(
    fc.array(requests, { minLength: 4, maxLength: 8 }),
    fc.constantFrom(3, 16, 64),
    fc.constantFrom(1, 2),
    fc.constantFrom(28, 34, 60),
    async (chosen, maxNumBatchedTokens, maxInFlight, numBlocks) => {
      let engine: LoadedEngine | null = null;
      const limits = { blockSize: 4, numBlocks, maxModelLen: 112, maxNumSeqs: Math.min(8, maxNumBatchedTokens), rebaseTokens: 64 };
      const backend = watched(() => engine?.scheduler.checkInvariants());
      engine = await nullEngine({ ...limits, backend, maxNumBatchedTokens, maxInFlight });
      const { scheduler } = engine;
      const running = chosen.map(async ({ prompt, maxTokens, seed, kvCache, abortAfter }) => {
        const promptTokenIds = promptOf(prompt, seed);
        const controller = new AbortController();
        const options = { signal: controller.signal, ...(kvCache === undefined ? {} : { kvCache }) };
        const stream = engine?.generate({ promptTokenIds }, { maxTokens, temperature: 0, seed: 0 }, options);
        const wanted = expectedTokens(promptTokenIds, maxTokens);
        if (stream === undefined) return;
        const found: number[] = [];
        try {
          for await (const { tokenIds } of stream) {
            found.push(...tokenIds);
            if (abortAfter !== null && found.length >= abortAfter) controller.abort();
          }
          expect(found).toEqual(wanted);
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: expect.stringMatching(/^(REQUEST_ABORTED|KV_OUT_OF_BLOCKS)$/) });
          expect(found).toEqual(wanted.slice(0, found.length));
        }
      });
      await Promise.all(running);
      scheduler.checkInvariants();
      expect(scheduler.kv.numReferenced).toBe(0);
      await engine.close();
    },
  );
  await fc.assert(lives, { numRuns: 30 });
});

test('it says so while it is open', async () => {
  let engine: LoadedEngine | null = null;
  const kinds = new Set<unknown>();
  engine = await nullEngine({ backend: watched(() => void kinds.add(engine?.requests()[0]?.kvCache)), blockSize: 4, numBlocks: 64 });
  for (const kvCache of [undefined, { window: 16 }, { compressPrompt: 20, observationWindow: 4 }]) {
    await engine.generate({ promptTokenIds: promptOf(40) }, { maxTokens: 2, temperature: 0 }, { kvCache });
  }
  expect([...kinds]).toEqual([undefined, 'window', 'prompt']);
  await engine.close();
});

test.each([
  { sinks: 3, window: 20 },
  { compressPrompt: 28, observationWindow: 4 },
])('%j goes on where it was after giving way to an older request', async (kvCache) => {
  const engine = await nullEngine({
    blockSize: 4,
    numBlocks: 24,
    maxModelLen: 96,
    maxNumBatchedTokens: 64,
    rebaseTokens: 64,
    enablePrefixCaching: false,
  });
  const ask = (seed: number, maxTokens: number, options: object) =>
    engine.generate({ promptTokenIds: promptOf(36, seed) }, { maxTokens, temperature: 0, seed: 0 }, options);
  const older = ask(1, 50, {});
  const younger = ask(2, 40, { kvCache });
  expect((await younger).choices[0].tokenIds).toEqual(expectedTokens(promptOf(36, 2), 40));
  expect((await older).choices[0].tokenIds).toEqual(expectedTokens(promptOf(36, 1), 50));
  expect(engine.stats().numPreemptions).toBeGreaterThan(0);
  expect(engine.scheduler.kv.numFree).toBe(24);
  await engine.close();
});

describe('is refused with the reason', () => {
  test.each([
    [{}, 'say one thing'],
    [{ window: 8, compressPrompt: 64 }, 'say one thing'],
    [{ sinks: 4 }, 'kv_cache.window'],
    [{ window: 0 }, 'kv_cache.window'],
    [{ window: 8.5 }, 'kv_cache.window'],
    [{ window: 121 }, 'do not fit the context'],
    [{ window: 8, sinks: -1 }, 'kv_cache.sinks'],
    [{ compressPrompt: 16 }, 'kv_cache.compress_prompt'],
    [{ compressPrompt: 64, observationWindow: 0 }, 'kv_cache.observation_window'],
    [{ compressPrompt: 64, kernel: 4 }, 'must be odd'],
    [{ windows: 8 } as RequestKvCache, 'no field windows'],
  ] as const)('%j', async (kvCache, words) => {
    const engine = await nullEngine({ blockSize: 4, numBlocks: 64, maxModelLen: 128 });
    const asked = engine.generate({ promptTokenIds: promptOf(100) }, { maxTokens: 2 }, { kvCache });
    await expect(asked).rejects.toMatchObject({ code: 'REQUEST_INVALID', param: 'kv_cache', message: expect.stringContaining(words) });
    await engine.close();
  });

  test('together with beam search', async () => {
    const engine = await nullEngine({ blockSize: 4, numBlocks: 64 });
    const asked = engine.generate({ promptTokenIds: promptOf(9) }, { maxTokens: 2, useBeamSearch: true, beamWidth: 2 }, { kvCache: { window: 16 } });
    await expect(asked).rejects.toMatchObject({ code: 'REQUEST_INVALID', param: 'kv_cache', message: expect.stringContaining('Beam search') });
    await engine.close();
  });

  test('by a model whose layers see a window, or whose embeddings hold positions', async () => {
    const windowed = await nullEngine({ window: 16 });
    for (const kvCache of [{ window: 8 }, { compressPrompt: 40 }]) {
      const asked = windowed.generate({ promptTokenIds: promptOf(60) }, { maxTokens: 2 }, { kvCache });
      await expect(asked).rejects.toMatchObject({ code: 'REQUEST_INVALID', message: expect.stringContaining('window of 16 tokens only') });
    }
    await windowed.close();
    const builder = new PlanBuilder({ formatOf: () => 'f32', activationFor: () => 'f32' });
    const embedded = builder.map('position-embedding', 'p', builder.map('scale', 's', builder.embeddings(8), { attrs: { factor: 1 } }), {
      weights: [builder.matrix('positions', 16, 8)],
      attrs: { axis: 0 },
    });
    builder.cacheGroup({ name: 'g', kind: 'full', numLayers: 1, numKvHeads: 1, headDim: 8 });
    const plan = builder.build('absolute', { logits: embedded });
    const absolute = await engineOver(new NullBackend(), { ...plan, input: { kind: 'tokenIds', value: plan.input.value } }, null, {});
    await expect(absolute.generate({ promptTokenIds: [1] }, { maxTokens: 2 }, { kvCache: { window: 8 } })).rejects.toMatchObject({
      message: expect.stringContaining('absolute positions'),
    });
    await absolute.close();
  });
});

test('the last tokens of a prompt are computed with the weights that are there already', async () => {
  const plan = decoderPlan({ vocabSize: VOCABULARY });
  const source = createDummySource(plan);
  const backend = new ReferenceBackend();
  const engine = await engineOver(backend, plan, source, { numBlocks: 64 });
  source.read = () => {
    throw new Error('a weight was read a second time');
  };
  const { choices } = await engine.generate(
    { promptTokenIds: promptOf(40) },
    { maxTokens: 3 },
    { kvCache: { compressPrompt: 20, observationWindow: 8 } },
  );
  expect(choices[0].tokenIds).toHaveLength(3);
  await engine.close();
});
