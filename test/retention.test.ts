/**
 * Requests that do not keep all of their keys: their logits depend on their tokens alone, to the bit, as those of all others do; and they are those of the
 * rule as it is published, computed anew for each token without any cache.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { MillraceError } from '../src/base/errors.ts';
import type { RequestKvCache } from '../src/engine/engine.ts';
import { loadEngine } from '../src/engine/load.ts';
import type { LoadedEngine } from '../src/engine/loaded-engine.ts';
import { fusePlan } from '../src/plan/passes/fuse.ts';
import { loadModel, SoloRequest } from './drive-backend.ts';
import {
  type BackendUnderTest,
  expectEqualBits,
  type Format,
  formats,
  native,
  nativeFormats,
  prompt,
  type Recording,
  reference,
  run,
  type ScenarioOptions,
  VOCABULARY,
} from './fixtures/reproducibility.ts';

interface Mode {
  readonly kvCache: RequestKvCache;
  readonly promptTokens: number;
  readonly maxTokens: number;
  /** Blocks that it may come to, those of its prompt included. */
  readonly numBlocks: number;
}

const compressed = { compressPrompt: 280, observationWindow: 16, kernel: 5 };
const large: Readonly<Record<string, Mode>> = {
  'a window behind sinks': { kvCache: { sinks: 5, window: 200 }, promptTokens: 600, maxTokens: 60, numBlocks: 10 },
  'a compressed prompt': { kvCache: compressed, promptTokens: 300, maxTokens: 60, numBlocks: 10 },
};
const small: typeof large = {
  'a window behind sinks': { kvCache: { sinks: 5, window: 40 }, promptTokens: 300, maxTokens: 45, numBlocks: 5 },
  'a compressed prompt': { kvCache: compressed, promptTokens: 300, maxTokens: 45, numBlocks: 10 },
};

const RECORDED = 'recorded';

async function record(engine: LoadedEngine, kvCache: RequestKvCache, promptTokens: number, maxTokens: number): Promise<void> {
  await engine.generate({ promptTokenIds: prompt.slice(0, promptTokens) }, { maxTokens, temperature: 0 }, { requestId: RECORDED, kvCache });
}

function reproducibility(name: string, under: BackendUnderTest, format: Format, numThreads: number): void {
  const modes = under === native ? large : small;
  const rebaseTokens = under === native ? 288 : 128;
  describe.each(Object.keys(modes))('%s', (mode) => {
    const { kvCache, promptTokens, maxTokens } = modes[mode];
    const label = `${name} ${mode}`;
    let baseline: Promise<Recording> | null = null;
    const wanted = () => {
      baseline ??= run(label, under, format, { rebaseTokens }, ({ engine }) => record(engine, kvCache, promptTokens, maxTokens));
      return baseline;
    };
    const same = async (options: ScenarioOptions, body: (engine: LoadedEngine) => Promise<void>) => {
      const found = await run(label, under, format, { rebaseTokens, ...options }, ({ engine }) => body(engine));
      expectEqualBits(found, await wanted());
    };
    const plain = (engine: LoadedEngine) => record(engine, kvCache, promptTokens, maxTokens);

    test.each([7, 64])(`in chunks of %i, on ${numThreads} threads`, async (maxNumBatchedTokens) => {
      await same({ numThreads, maxNumBatchedTokens, maxNumSeqs: Math.min(20, maxNumBatchedTokens) }, plain);
    });

    test('beside others, some like it, with two steps in flight', async () => {
      await same({ maxInFlight: 2, maxNumBatchedTokens: 160, numBlocks: 160 }, async (engine) => {
        const others = [1, 2, 3, 4].map((i) => {
          const promptTokenIds = prompt.slice(i, i + 3 + 90 * i).map((id) => (id + i) % VOCABULARY);
          const options = i % 2 === 0 ? {} : { kvCache: Object.values(modes)[(i - 1) / 2].kvCache };
          return engine.generate({ promptTokenIds }, { maxTokens: 20 + 3 * i, temperature: 1, seed: i }, options);
        });
        await Promise.all([plain(engine), ...others]);
      });
    });

    test('preempted and computed again', async () => {
      // what all three need to start, and the watermark; the older ones then grow
      await same({ numBlocks: modes[mode].numBlocks + 2 * 5 + 1, maxNumBatchedTokens: 128 }, async (engine) => {
        const older = [0, 1].map((i) => engine.generate({ promptTokenIds: prompt.slice(i, 127 + i) }, { maxTokens: 150, temperature: 0 }));
        await Promise.all(older.map(({ admitted }) => admitted));
        await Promise.all([plain(engine), ...older]);
        expect(engine.stats().numPreemptions).toBeGreaterThan(0);
      });
    });

    test('none of it stays in the prefix tree', async () => {
      await run(label, under, format, { rebaseTokens }, async ({ engine }) => {
        await plain(engine);
        expect(engine.scheduler.kv.numCached).toBe(0);
        expect(engine.scheduler.kv.numReferenced).toBe(0);
      });
    });
  });
}

describe('reference', () => reproducibility('reference f32', reference, formats.f32, 1));

const missing = await native.create(1).then(
  (backend) => backend.close().then(() => null),
  (error: unknown) => {
    if (error instanceof MillraceError && error.code === 'NATIVE_ADDON_UNAVAILABLE') return error.message;
    throw error;
  },
);
describe.skipIf(missing !== null)('native', () => {
  const { f32, q8_0 } = formats;
  describe.each([
    ['f32', f32],
    ['q8_0', q8_0],
    ['int8 K and V', { ...nativeFormats['int8 K and V'], features: {} }],
  ] as const)('%s', (name, format) => reproducibility(`native ${name}`, native, format, 2));
});

const stories = path.join(process.env.MILLRACE_SHARED ?? path.join(import.meta.dirname, '../../shared'), 'models/stories260K');

test.skipIf(missing !== null)('behind a window a trained model goes on where all keys have long failed it', async (context) => {
  if (!existsSync(stories)) return context.skip('../shared/models/stories260K is absent');
  const kvCache = { sinks: 4, window: 256 };
  const maxTokens = 2600;
  await using engine = await loadEngine({ model: stories, maxModelLen: 512, kvCacheDtype: 'float32' });
  const params = { maxTokens, seed: 11, temperature: 0.8, ignoreEos: true, logprobs: true };
  const { choices } = await engine.generate({ prompt: 'Once upon a time' }, params, { kvCache });
  const { tokenIds, logprobs } = choices[0];
  expect(tokenIds).toHaveLength(maxTokens);
  const { source, plan } = loadModel(stories);
  const all = await SoloRequest.open(await native.create(2), fusePlan(plan()), source, maxTokens, { maxTokens: 128 });
  const surprises: number[] = [];
  for (let at = 0; at < maxTokens; at += 128) {
    const logits = await all.feed(tokenIds.slice(at, at + 128));
    for (let i = at; i + 1 < Math.min(maxTokens, at + 128); i++) {
      const row = logits.subarray((i - at) * all.vocabSize, (i - at + 1) * all.vocabSize);
      const largest = row.reduce((a, b) => Math.max(a, b));
      const sum = row.reduce((total, logit) => total + Math.exp(logit - largest), 0);
      surprises[i + 1] = Math.log(sum) + largest - row[tokenIds[i + 1]];
    }
  }
  all.close();
  source.close();
  // its own surprise at its own text, and that of the model with all keys; within the context both are the same text to the model
  const mean = (numbers: readonly (number | undefined)[]) => numbers.reduce<number>((sum, x = 0) => sum + x, 0) / numbers.length;
  const own = (from: number, to: number) => mean((logprobs ?? []).slice(from, to).map(({ logprob }) => -logprob));
  expect(own(2300, maxTokens)).toBeLessThan(own(0, 250) + 0.5);
  expect(mean(surprises.slice(2300))).toBeGreaterThan(own(2300, maxTokens) + 1.5);
});
