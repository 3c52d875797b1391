/**
 * Number types of K and V through the engine: each gives the same bits as itself, however a text is cut, shared, copied or preempted, and what decode saw is
 * what a prefill of the same tokens sees ("KL replay"): attention reads K and V only as stored (idea 5).
 */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Backend, Cache } from '../src/backends/backend.ts';
import { ReferenceBackend } from '../src/backends/reference/reference-backend.ts';
import { MillraceError } from '../src/base/errors.ts';
import { loadEngine } from '../src/engine/load.ts';
import type { LoadedEngine } from '../src/engine/loaded-engine.ts';
import type { LogitsListener } from '../src/engine/loop.ts';
import { type KvDtype, kvDtypes } from '../src/kv/layout.ts';
import { HostTier } from '../src/kv/tiers/host-tier.ts';
import { TierStack } from '../src/kv/tiers/tier-stack.ts';
import { withAttentionActivation } from '../src/plan/passes/attention-activation.ts';
import { fusePlan } from '../src/plan/passes/fuse.ts';
import { createDummySource } from '../src/weights/dummy-source.ts';
import { decoderPlan } from './fixtures/decoder.ts';
import { type EngineFixture, engineOver } from './fixtures/engine.ts';

const pocket = path.join(import.meta.dirname, '..', 'pocket', 'model');
const dtypes = Object.keys(kvDtypes) as KvDtype[];
const createNative = async (): Promise<Backend> => (await import('../src/backends/native/native-backend.ts')).createNativeBackend({ numThreads: 2 });
const missing = await createNative().then(
  (backend) => backend.close().then(() => null),
  (error: unknown) => {
    if (error instanceof MillraceError && error.code === 'NATIVE_ADDON_UNAVAILABLE') return error.message;
    throw error;
  },
);

/** Logits of the requests named `recorded`, by the number of tokens before them. */
function recorder(): { logits: Map<number, Float32Array>; listener: LogitsListener } {
  const logits = new Map<number, Float32Array>();
  const listener: LogitsListener = (batch, rows) => {
    const width = rows.length / batch.totalLogitRows;
    let row = 0;
    for (let r = 0; r < batch.numRows; r++) {
      const end = batch.firstToken[r] + batch.numNewTokens[r];
      if (batch.numLogitRows[r] === 1 && batch.requests[r].id.startsWith('recorded')) logits.set(end, rows.slice(row * width, (row + 1) * width));
      row += batch.numLogitRows[r];
    }
  };
  return { logits, listener };
}

const VOCABULARY = 61;
const prompt = Array.from({ length: 270 }, (_, i) => (i * i * 7 + i * 31 + 5) % VOCABULARY);

describe.each([
  ['reference', async () => new ReferenceBackend(), null],
  ['native', createNative, missing],
] as const)('on the %s backend', (_, open, problem) => {
  const recordingOf = async (kvDtype: KvDtype, options: EngineFixture, before?: (engine: LoadedEngine) => Promise<unknown[]>) => {
    // as the engine chooses for weights of 8 bits and below
    const activation = kvDtype === 'f32' || kvDtype === 'f16' ? 'f32' : 'bf16';
    const plan = withAttentionActivation(fusePlan(decoderPlan({ vocabSize: VOCABULARY, window: 40 })), activation);
    const { logits, listener } = recorder();
    const defaults = { blockSize: 16, numBlocks: 64, maxModelLen: 512, maxNumBatchedTokens: 512 };
    const engine = await engineOver(await open(), plan, createDummySource(plan), { ...defaults, ...options, kvDtype, captureLogits: listener });
    const beside = await before?.(engine);
    const { usage } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 30, temperature: 0 }, { requestId: 'recorded' });
    await Promise.all(beside ?? []);
    engine.scheduler.checkInvariants();
    const { numPreemptions, tierHitTokens } = engine.stats();
    await engine.close();
    return { logits, cachedTokens: usage.cachedTokens, numPreemptions, tierHitTokens };
  };

  test.skipIf(problem !== null).each(dtypes)(
    '%s: the same bits in chunks, from a copied part of a block, from a tier, after preemption, and with two steps in flight',
    async (kvDtype) => {
      const whole = await recordingOf(kvDtype, { enablePrefixCaching: false });
      expect(whole.logits.size).toBe(30);
      const chunks = await recordingOf(kvDtype, { maxNumBatchedTokens: 7, maxNumSeqs: 4 });
      expect(chunks.logits).toEqual(whole.logits);
      const other = [...prompt.slice(0, 201), (prompt[201] + 1) % VOCABULARY, 3];
      const copied = await recordingOf(kvDtype, {}, async (engine) => [
        await engine.generate({ promptTokenIds: other }, { maxTokens: 9, temperature: 0 }),
      ]);
      expect(copied.cachedTokens).toBe(201);
      expect(copied.logits).toEqual(whole.logits);
      const small = { numBlocks: Math.ceil(prompt.length / 16) + 6, maxNumBatchedTokens: 64 };
      const preempted = await recordingOf(kvDtype, small, async (engine) => {
        const older = engine.generate({ promptTokenIds: prompt.slice(100, 150) }, { maxTokens: 120, temperature: 0 });
        await older.admitted;
        return [older];
      });
      expect(preempted.numPreemptions).toBeGreaterThan(0);
      expect(preempted.logits).toEqual(whole.logits);
      const overlapped = await recordingOf(kvDtype, { ...small, maxInFlight: 2 }, async (engine) => [
        engine.generate({ promptTokenIds: prompt.slice(50, 80) }, { maxTokens: 60, temperature: 0 }),
      ]);
      expect(overlapped.logits).toEqual(whole.logits);
      const tiers = ({ layout }: Cache) => new TierStack({ classDigest: layout, host: new HostTier(1 << 26) });
      const fetched = await recordingOf(kvDtype, { numBlocks: small.numBlocks, tiers }, async (engine) => {
        // computing is dear: what the tier holds is taken, however noisy the clock is
        engine.scheduler.rates.noteStep(1_000_000, 1e9);
        for (const promptTokenIds of [prompt, prompt.map((id) => (id + 1) % VOCABULARY)]) await engine.generate({ promptTokenIds }, { maxTokens: 1 });
        return [];
      });
      expect(fetched.tierHitTokens).toBeGreaterThan(100);
      expect(fetched.logits).toEqual(whole.logits);
    },
  );

  test.skipIf(problem !== null).each(dtypes)(
    '%s: KL replay: a prefill of what was generated gives the logits of decode, in one step and in chunks',
    async (kvDtype) => {
      const plan = fusePlan(decoderPlan({ vocabSize: VOCABULARY, window: 40 }));
      const start = prompt.slice(0, 50);
      const logitsOf = async (
        prompts: (said: readonly number[]) => number[][],
        maxTokens: number,
        options: EngineFixture,
        said: readonly number[] = [],
      ) => {
        const { logits, listener } = recorder();
        const defaults = { blockSize: 16, numBlocks: 64, maxModelLen: 256, maxNumBatchedTokens: 256, enablePrefixCaching: false };
        const engine = await engineOver(await open(), plan, createDummySource(plan), { ...defaults, ...options, kvDtype, captureLogits: listener });
        let tokenIds: readonly number[] = [];
        for (const promptTokenIds of prompts(said)) {
          const { choices } = await engine.generate({ promptTokenIds }, { maxTokens, temperature: 0 }, { requestId: 'recorded' });
          tokenIds = choices[0].tokenIds;
        }
        await engine.close();
        return { logits, tokenIds };
      };
      const decoded = await logitsOf(() => [start], 20, {});
      const replays = (said: readonly number[]) => [1, 6, 13, 19].map((count) => [...start, ...said.slice(0, count)]);
      for (const maxNumBatchedTokens of [256, 9]) {
        const replayed = await logitsOf(replays, 1, { maxNumBatchedTokens }, decoded.tokenIds);
        expect(replayed.logits.size).toBe(4);
        for (const [length, row] of replayed.logits) expect(row, `after ${length} tokens`).toEqual(decoded.logits.get(length));
      }
    },
  );

  test.skipIf(problem !== null)('each number type gives logits of its own', async () => {
    const last = await Promise.all(dtypes.map(async (kvDtype) => (await recordingOf(kvDtype, {})).logits.get(prompt.length)?.join() ?? ''));
    expect(new Set(last).size).toBe(last.length);
  });
});

test.skipIf(missing !== null).each(['float32', 'bfloat16', 'float16', 'int8', 'fp8', 'int4'] as const)(
  'KL replay in %s: a prefill of generated tokens gives the logits of decode, to the bit',
  async (kvCacheDtype) => {
    const { logits, listener } = recorder();
    const options = { model: pocket, kvCacheDtype, maxModelLen: 256, enablePrefixCaching: false } as const;
    await using engine = await loadEngine(options, { captureLogits: listener });
    const promptTokenIds = [
      ...engine.tokenizer.encode('Once upon a time there was a small mill by a river, and in it', { addSpecialTokens: false, parseSpecial: false }),
    ];
    const maxTokens = 24;
    const result = await engine.generate({ promptTokenIds }, { maxTokens, temperature: 0, ignoreEos: true }, { requestId: 'recorded' });
    const decoded = new Map(logits);
    expect(decoded.size).toBe(maxTokens);
    logits.clear();
    const all = [...promptTokenIds, ...result.choices[0].tokenIds];
    for (let length = promptTokenIds.length; length < all.length; length++)
      await engine.generate({ promptTokenIds: all.slice(0, length) }, { maxTokens: 1, temperature: 0 }, { requestId: `recorded ${length}` });
    expect(logits).toEqual(decoded);
  },
);
