/**
 * The reproducibility contract (idea 5 of ARCHITECTURE.md): the logits of a row depend on its tokens alone, to the bit. One prompt is continued
 * alone, in a batch of 17, in chunks of 1, 7 and 64, on 1 and 2 threads, from a cold and from a warm prefix cache, from tiers and other engines, preempted by
 * recomputing and by swapping, with two steps in flight.
 *
 * The shape crosses two K segments of a linear, more than three KV splits of attention and every row class (1, 2-8, 9-64, more than 64).
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Cache } from '../src/backends/backend.ts';
import { MillraceError } from '../src/base/errors.ts';
import { DiskTier } from '../src/kv/tiers/disk-tier.ts';
import { HostTier } from '../src/kv/tiers/host-tier.ts';
import { TierStack } from '../src/kv/tiers/tier-stack.ts';
import type { PrefixBlocks } from '../src/kv/transfer/server.ts';
import { ATTENTION_SPLIT } from '../src/plan/ops/attention.ts';
import {
  type BackendUnderTest,
  expectEqualBits,
  type Format,
  formats,
  native,
  nativeFormats,
  nativeOf,
  PROMPT_TOKENS,
  prompt,
  type Recording,
  record,
  reference,
  rowClasses,
  run,
  type Scenario,
  type ScenarioOptions,
  VOCABULARY,
} from './fixtures/reproducibility.ts';

function reproducibility(name: string, under: BackendUnderTest, format: Format): void {
  const label = `${under === native ? 'native' : 'reference'} ${name}`;
  const { numGenerated } = under;
  let baseline: Promise<Recording> | null = null;
  const wanted = () => {
    baseline ??= run(label, under, format, {}, async (s) => void (await record(s, numGenerated)));
    return baseline;
  };
  const same = async (options: ScenarioOptions, body: (s: Scenario) => Promise<void>) => {
    expectEqualBits(await run(label, under, format, options, body), await wanted());
  };
  const plain = async (s: Scenario) => void (await record(s, numGenerated));

  for (const numThreads of under.threadCounts) {
    const threads = `on ${numThreads} ${numThreads === 1 ? 'thread' : 'threads'}`;

    test.each([1, 7, 64, 1024])(`chunks of %i, ${threads}`, async (maxNumBatchedTokens) => {
      await same({ numThreads, maxNumBatchedTokens, maxNumSeqs: Math.min(20, maxNumBatchedTokens) }, plain);
    });

    test(`in a batch of 17, ${threads}`, async () => {
      await same({ numThreads, maxNumBatchedTokens: 160, numBlocks: 160 }, async (s) => {
        const others = Array.from({ length: 16 }, (_, i) => {
          const promptTokenIds = prompt.slice(i, i + 3 + 9 * i).map((id) => (id + i) % VOCABULARY);
          return s.engine.generate({ promptTokenIds }, { maxTokens: 20 + 3 * i, temperature: 1, seed: i });
        });
        await Promise.all([record(s, numGenerated), ...others]);
      });
    });
  }

  test('with two steps in flight, beside others, one of which waits for its samples', async () => {
    await same({ maxInFlight: 2, maxNumBatchedTokens: 100, numBlocks: 100 }, async (s) => {
      const ask = (i: number, presencePenalty: number) =>
        s.engine.generate({ promptTokenIds: prompt.slice(i, 40 + 3 * i) }, { maxTokens: 20 + i, temperature: 1, seed: i, presencePenalty });
      await Promise.all([record(s, numGenerated), ask(1, 0), ask(2, 1), ask(30, 0)]);
    });
  });

  test('with a target between tokens that cuts the prompt small, beside others', async () => {
    await same({ targetItlMs: 0.001, maxNumBatchedTokens: 160, numBlocks: 160 }, async (s) => {
      const others = [1, 2, 3].map((i) => s.engine.generate({ promptTokenIds: prompt.slice(i, 9 + i) }, { maxTokens: 40, temperature: 1, seed: i }));
      await others[0].admitted;
      await Promise.all([record(s, numGenerated), ...others]);
      expect(s.engine.stats().pacing?.numLimitedSteps).toBeGreaterThan(0);
    });
  });

  test.each([true, false])('as two choices that share the prompt (prefix cache: %s)', async (enablePrefixCaching) => {
    await same({ enablePrefixCaching }, async (s) => void (await record(s, numGenerated, 2)));
  });

  test('from a warm prefix cache', async () => {
    await same({}, async (s) => {
      await s.engine.generate({ promptTokenIds: prompt }, { maxTokens: 1 });
      const { cachedTokens } = await record(s, numGenerated);
      expect(cachedTokens).toBe(PROMPT_TOKENS - 1);
    });
  });

  test('from a prefix that ends inside a block', async () => {
    const shared = 2 * ATTENTION_SPLIT + 5;
    await same({ maxNumBatchedTokens: 100 }, async (s) => {
      const promptTokenIds = [...prompt.slice(0, shared), (prompt[shared] + 1) % VOCABULARY, 3, 4];
      await s.engine.generate({ promptTokenIds }, { maxTokens: 40, temperature: 0 });
      const { cachedTokens } = await record(s, numGenerated);
      expect(cachedTokens).toBe(shared);
    });
  });

  test.each([
    [true, 1],
    [false, 1],
    [true, 2],
  ])('with forced preemption (prefix cache: %s, steps in flight: %i)', async (enablePrefixCaching, maxInFlight) => {
    // blocks for both prompts and one more, into which the older request grows: the younger then needs one that is not there
    const numBlocks = Math.ceil((PROMPT_TOKENS + 1) / 32) + 4 + 1;
    await same({ numBlocks, maxNumBatchedTokens: 128, enablePrefixCaching, maxInFlight }, async (s) => {
      const older = s.engine.generate({ promptTokenIds: prompt.slice(100, 221) }, { maxTokens: 60 + numGenerated, temperature: 0 });
      await older.admitted;
      await record(s, numGenerated);
      await older;
      expect(s.engine.stats().numPreemptions).toBeGreaterThan(0);
    });
  });

  /** Tells the cost model that computing is dear, so that what a tier holds is loaded however noisy the clock is. */
  const preferTiers = ({ engine }: Scenario) => engine.scheduler.rates.noteStep(1_000_000, 1e9);
  const others = (s: Scenario, from: number, count: number) =>
    Array.from({ length: count }, (_, i) => {
      const promptTokenIds = prompt.slice(0, 400 + 7 * i).map((id) => (id + from + i) % VOCABULARY);
      return s.engine.generate({ promptTokenIds }, { maxTokens: 1, seed: i });
    });

  test('from a host tier, after others took its blocks', async () => {
    const tiers = ({ layout }: Cache) => new TierStack({ classDigest: layout, host: new HostTier(1 << 28) });
    await same({ numBlocks: 34, tiers }, async (s) => {
      preferTiers(s);
      await s.engine.generate({ promptTokenIds: prompt }, { maxTokens: 1 });
      await Promise.all(others(s, 1, 2));
      await record(s, numGenerated);
      expect(s.engine.stats().tierHitTokens).toBeGreaterThan(100);
    });
  });

  test('from a disk tier, in an engine that never saw the prompt', async () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-bits-'));
    const tiers = async ({ layout: classDigest }: Cache) =>
      new TierStack({ classDigest, disk: await DiskTier.open({ directory, limitBytes: 1 << 28, classDigest }) });
    try {
      await run(label, under, format, { tiers }, async (s) => void (await s.engine.generate({ promptTokenIds: prompt }, { maxTokens: 1 })));
      await same({ tiers }, async (s) => {
        const { cachedTokens } = await record(s, numGenerated);
        expect(cachedTokens).toBe(32 * Math.floor((PROMPT_TOKENS - 1) / 32));
      });
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });

  test.each([false, true])('preempted again and again by others that grow (host tier: %s)', async (isSwapped) => {
    const tiers = ({ layout }: Cache) => new TierStack({ classDigest: layout, host: isSwapped ? new HostTier(1 << 28) : null });
    // room for all prompts and a little more: whoever came last gives way as the others grow
    const numBlocks = Math.ceil((PROMPT_TOKENS + 1) / 32) + 12;
    await same({ numBlocks, maxNumBatchedTokens: 160, tiers }, async (s) => {
      preferTiers(s);
      const older = [0, 1, 2].map((i) => {
        const promptTokenIds = prompt.slice(100 + i, 180 + 5 * i);
        return s.engine.generate({ promptTokenIds }, { maxTokens: 50 + 40 * i, temperature: 1, seed: i });
      });
      await Promise.all(older.map(({ admitted }) => admitted));
      await Promise.all([record(s, numGenerated), ...older]);
      const { numPreemptions, numSwaps, tierHitTokens } = s.engine.stats();
      expect(numPreemptions).toBeGreaterThan(0);
      expect(numSwaps).toBe(isSwapped ? numPreemptions : 0);
      if (isSwapped) expect(tierHitTokens).toBeGreaterThan(0);
    });
  });

  test('from blocks that another engine computed', async () => {
    const request = { tokenIds: Int32Array.from(prompt), cacheSalt: '' };
    let given: PrefixBlocks | null = null;
    await run(label, under, format, {}, async (s) => {
      await s.engine.generate({ promptTokenIds: prompt }, { maxTokens: 1 });
      given = await s.engine.prefixes.export(request);
    });
    await same({}, async (s) => {
      await s.engine.prefixes.import(request, given!);
      expect((await record(s, numGenerated)).cachedTokens).toBe(32 * Math.floor((PROMPT_TOKENS - 1) / 32));
    });
  });

  test('a planted change of order is seen', async () => {
    const faulty = await run(label, under, format, { fault: true }, plain);
    const right = await wanted();
    expect(faulty.get(PROMPT_TOKENS)).toBeDefined();
    expect(faulty.get(PROMPT_TOKENS)).not.toEqual(right.get(PROMPT_TOKENS));
  });
}

describe.each(Object.keys(formats))('the reference backend gives the same bits, %s', (name) => {
  reproducibility(name, reference, formats[name]);
});

const missing = await native.create(1).then(
  (backend) => backend.close().then(() => null),
  (error: unknown) => {
    if (error instanceof MillraceError && error.code === 'NATIVE_ADDON_UNAVAILABLE') return error.message;
    throw error;
  },
);

describe.skipIf(missing !== null).each(Object.keys(nativeFormats))(
  `the native backend gives the same bits${missing === null ? '' : ` (not here: ${missing})`}, %s`,
  (name) => {
    reproducibility(name, native, nativeFormats[name]);

    test('every row class, several segments of K and several KV splits ran', () => {
      const [one, few, some, many, segments, splits] = rowClasses.get(`native ${name}`)!;
      for (const count of [one, few, some, many]) expect(count).toBeGreaterThan(0);
      expect(segments).toBeGreaterThan(one + few + some + many);
      expect(splits).toBeGreaterThan(0);
    });
  },
);

/** The classes below the best one of this machine: the same contract, a shorter test. */
const otherIsas = await (async () => {
  if (missing !== null) return [];
  const backend = await native.create(1);
  const { isa } = backend.info;
  await backend.close();
  const all = ['portable', 'avx2', 'avx512'];
  return all.slice(0, Math.max(0, all.indexOf(isa)));
})();

describe.each(otherIsas.flatMap((isa) => Object.keys(nativeFormats).map((name) => [isa, name] as const)))(
  'native kernels for %s give the same bits, %s',
  (isa, name) => {
    const under = nativeOf(isa);
    const format = nativeFormats[name];
    const plain = async (s: Scenario) => void (await record(s, 20));

    test('in chunks of 1024, 64, 7 and 1', async () => {
      const label = `${isa} ${name}`;
      const wanted = await run(label, under, format, {}, async (s) => {
        expect(s.backend.info.isa).toBe(isa);
        await plain(s);
      });
      for (const maxNumBatchedTokens of [64, 7, 1]) {
        const options = { numThreads: 2, maxNumBatchedTokens, maxNumSeqs: Math.min(20, maxNumBatchedTokens) };
        expectEqualBits(await run(label, under, format, options, plain), wanted);
      }
      for (const count of rowClasses.get(label)!.slice(0, 4)) expect(count).toBeGreaterThan(0);
    });
  },
);

afterAll(() => rowClasses.clear());
