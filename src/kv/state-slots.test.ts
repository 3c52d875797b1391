/** Recurrent states beside keys and values: one a sequence, copies at intervals, prefixes resumed where every group can. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decoderPlan } from '../../test/fixtures/decoder.ts';
import { type EngineFixture, engineOver } from '../../test/fixtures/engine.ts';
import { expectedToken, NullBackend } from '../backends/null/null-backend.ts';
import type { LoadedEngine } from '../engine/loaded-engine.ts';
import type { CacheGroup } from '../plan/plan.ts';
import { KvCache } from './kv-cache.ts';
import { bytesForAllRows, bytesPerBlock, bytesPerToken, longestSequence, numBlocksForMemory } from './layout.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 8 };
const full: CacheGroup = { name: 'full', kind: 'full', ...shape };
const windowed: CacheGroup = { name: 'window', kind: 'window', window: 6, ...shape };
const state: CacheGroup = { name: 'state', kind: 'state', ...shape };

function cacheOf(groups: readonly CacheGroup[], numBlocks = 32): KvCache {
  return new KvCache({ groups: groups.map((group) => ({ ...group, numBlocks })), blockSize: 4, enablePrefixCaching: true, stateInterval: 8 });
}

const range = (count: number, from = 0) => Int32Array.from({ length: count }, (_, i) => i + from);

/** Computes a text as steps of `chunkRoom` and single tokens would, and ends it there. @returns where it was resumed */
function live(kv: KvCache, ids: Int32Array, ending: 'settled' | 'in flight' = 'settled'): number {
  const sequence = kv.open();
  const resumed = kv.matchPrefix(sequence, ids, ids.length - 1);
  for (let first = resumed; first < ids.length; ) {
    const end = Math.min(ids.length, first + kv.chunkRoom(sequence, first));
    expect(kv.allocate(sequence, first, end)).toBe(true);
    kv.check([sequence]);
    kv.drainCopies({ copies: new Int32Array(0) });
    kv.publish(sequence, ids, end);
    first = end;
  }
  kv.free(sequence, ids, ids.length, ending === 'settled');
  kv.check([]);
  return resumed;
}

/** The same text up to `same`, then another. */
const forked = (length: number, same: number) => range(length).map((id, i) => (i < same ? id : id + 500));

describe.each([
  ['beside full attention', [full, state]],
  ['alone', [state]],
  ['beside a window', [state, windowed]],
] as const)('states %s', (_, groups) => {
  test('a prefix resumes at the longest length behind which the state is remembered', () => {
    const kv = cacheOf(groups);
    expect(live(kv, range(22))).toBe(0);
    // states behind 8 and 16 tokens, and behind all 22
    expect(live(kv, range(30))).toBe(22);
    expect(live(kv, forked(30, 21))).toBe(16);
    expect(live(kv, forked(30, 15))).toBe(8);
    expect(live(kv, forked(30, 7))).toBe(0);
    expect(kv.numReferenced).toBe(0);
  });

  test('one that ends while a step is in flight leaves no state behind, but what was copied before', () => {
    const kv = cacheOf(groups);
    live(kv, range(22), 'in flight');
    expect(live(kv, range(30))).toBe(16);
  });

  test('when states run out, copies go before anybody waits, and prefixes resume earlier', () => {
    const states = new KvCache({
      groups: groups.map((group) => ({ ...group, numBlocks: group.kind === 'state' ? 2 : 32 })),
      blockSize: 4,
      enablePrefixCaching: true,
      stateInterval: 8,
    });
    live(states, range(22));
    const again = live(states, forked(30, 21));
    expect(again === 0 || again === 16).toBe(true);
    expect(states.numReferenced).toBe(0);
  });
});

test('memory: a block of a state group is a state, whatever the number type, and does not grow with the text', () => {
  const limits = { blockSize: 16, dtype: 'bf16', maxModelLen: 1024, maxNumSeqs: 4, maxNumBatchedTokens: 64 } as const;
  expect(bytesPerToken(state, 'bf16')).toBe(0);
  expect(bytesPerBlock(state, 16, 'bf16')).toBe(32);
  expect(bytesForAllRows([state], limits)).toBe(4 * 32);
  const blocks = numBlocksForMemory([full, state], 100_000, limits);
  expect(blocks[1]).toBe(4 * 9);
  expect(blocks[0] * bytesPerBlock(full, 16, 'bf16') + blocks[1] * 32).toBeLessThanOrEqual(100_000);
  expect(longestSequence([full, state], blocks, limits)).toBe(blocks[0] * 16);
  expect(longestSequence([state], [4], limits)).toBe(Infinity);
});

const VOCABULARY = 97;

function expectedTokens(prompt: readonly number[], count: number): number[] {
  const all = [...prompt];
  for (let i = 0; i < count; i++) all.push(expectedToken(all, VOCABULARY));
  return all.slice(prompt.length);
}

/** A synthetic plan: the null backend keeps the hash of the context as the state, and looks whose it is. */
async function statefulEngine(groups: readonly CacheGroup[], options: EngineFixture, check: () => void): Promise<LoadedEngine> {
  const backend = new NullBackend({
    stepMs: () => {
      check();
      return 0;
    },
  });
  const plan = { ...decoderPlan({ vocabSize: VOCABULARY }), cacheGroups: groups };
  return engineOver(backend, plan, null, { blockSize: 4, stateInterval: 8, ...options });
}

const texts = fc.record({
  length: fc.integer({ min: 3, max: 40 }),
  /** Texts share beginnings. */
  same: fc.constantFrom(0, 5, 8, 16, 21, 40),
  maxTokens: fc.integer({ min: 1, max: 30 }),
  n: fc.constantFrom(1, 1, 2),
  abortAfter: fc.option(fc.integer({ min: 0, max: 20 }), { freq: 4 }),
});

test('whatever shares, is stopped or has to give way, each reads its own state, and every block comes back', async () => {
  const lives = fc.asyncProperty(
    fc.constantFrom([full, state], [state], [state, windowed, full]),
    fc.array(texts, { minLength: 4, maxLength: 9 }),
    fc.constantFrom(3, 16, 64),
    fc.constantFrom(1, 2),
    fc.constantFrom(20, 32, 80),
    async (groups, chosen, maxNumBatchedTokens, maxInFlight, numBlocks) => {
      let engine: LoadedEngine | null = null;
      const options = { numBlocks, maxModelLen: 72, maxNumSeqs: Math.min(6, maxNumBatchedTokens), maxNumBatchedTokens, maxInFlight };
      engine = await statefulEngine(groups, options, () => engine?.scheduler.checkInvariants());
      const running = chosen.map(async ({ length, same, maxTokens, n, abortAfter }, who) => {
        const promptTokenIds = Array.from({ length }, (_, i) => (i * 7 + (i < same ? 1 : who * 13)) % VOCABULARY);
        const controller = new AbortController();
        const stream = engine?.generate({ promptTokenIds }, { maxTokens, n, temperature: 0, seed: 0 }, { signal: controller.signal });
        const wanted = expectedTokens(promptTokenIds, maxTokens);
        if (stream === undefined) return;
        const found: number[] = [];
        try {
          for await (const { index, tokenIds } of stream) {
            if (index === 0) found.push(...tokenIds);
            if (abortAfter !== null && found.length >= abortAfter) controller.abort();
          }
          expect(found).toEqual(wanted);
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: expect.stringMatching(/^(REQUEST_ABORTED|KV_OUT_OF_BLOCKS)$/) });
          expect(found).toEqual(wanted.slice(0, found.length));
        }
      });
      await Promise.all(running);
      engine.scheduler.checkInvariants();
      expect(engine.scheduler.kv.numReferenced).toBe(0);
      await engine.close();
    },
  );
  await fc.assert(lives, { numRuns: 30 });
});

test('a request that had to give way takes its state up again, and so does one that continues another', async () => {
  const engine = await statefulEngine([full, state], { numBlocks: 20, maxModelLen: 72, maxNumBatchedTokens: 64 }, () => {});
  const prompts = [1, 2].map((seed) => Array.from({ length: 30 }, (_, i) => (i * 7 + seed) % VOCABULARY));
  const ask = (promptTokenIds: readonly number[], maxTokens: number) => engine.generate({ promptTokenIds }, { maxTokens, temperature: 0, seed: 0 });
  const results = await Promise.all(prompts.map((prompt) => ask(prompt, 30)));
  results.forEach(({ choices }, i) => {
    expect(choices[0].tokenIds).toEqual(expectedTokens(prompts[i], 30));
  });
  expect(engine.stats().numPreemptions).toBeGreaterThan(0);
  const longer = [...prompts[0], ...results[0].choices[0].tokenIds, 5];
  const { usage, choices } = await ask(longer, 2);
  expect(usage.cachedTokens).toBeGreaterThan(0);
  expect(choices[0].tokenIds).toEqual(expectedTokens(longer, 2));
  await engine.close();
});
