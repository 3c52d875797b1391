/** Tiers under a running engine, on the device without arithmetic: its tokens tell whether each row read exactly its own context. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { type EngineFixture, nullEngine } from '../../test/fixtures/engine.ts';
import { expectedToken } from '../backends/null/null-backend.ts';
import { DiskTier } from '../kv/tiers/disk-tier.ts';
import { HostTier } from '../kv/tiers/host-tier.ts';
import type { KvTier } from '../kv/tiers/tier.ts';
import { TierStack } from '../kv/tiers/tier-stack.ts';
import type { LoadedEngine } from './loaded-engine.ts';

const VOCABULARY = 97;
const prompt = (name: number, length: number) => Array.from({ length }, (_, i) => (name * 31 + i * 7) % VOCABULARY);

function expected(ids: readonly number[], count: number): number[] {
  const context = [...ids];
  for (let i = 0; i < count; i++) context.push(expectedToken(context, VOCABULARY, [0, 0], 0));
  return context.slice(ids.length);
}

/** Says that computing takes long, so that moving blocks is worth while; nobody waits for it. */
const slowSteps = { backend: { stepMs: ({ numTokens }: { numTokens: number }) => 50 * numTokens } };

const withHost = (limitBytes = 1 << 20): EngineFixture & typeof slowSteps => ({
  ...slowSteps,
  tiers: ({ layout }) => new TierStack({ classDigest: layout, host: new HostTier(limitBytes) }),
});

async function answer(engine: LoadedEngine, ids: readonly number[], count = 3, cacheSalt?: string) {
  const { choices, usage } = await engine.generate({ promptTokenIds: ids }, { maxTokens: count, seed: 0 }, { cacheSalt });
  expect(choices[0].tokenIds).toEqual(expected(ids, count));
  return usage.cachedTokens;
}

function expectNothingHeld(engine: LoadedEngine): void {
  expect(engine.stats()).toMatchObject({ numRunning: 0, numWaiting: 0, kvBlocksReferenced: 0 });
  engine.scheduler.checkInvariants();
}

describe('a host tier', () => {
  test.each([0, 10])('gives back a prefix that the device had to evict, window %i', async (window) => {
    await using engine = await nullEngine({ numBlocks: 16, maxModelLen: 60, window, ...withHost() });
    expect(await answer(engine, prompt(1, 41))).toBe(0);
    for (let other = 2; other < 5; other++) await answer(engine, prompt(other, 41));
    expect(await answer(engine, prompt(1, 41))).toBe(40);
    expect(engine.scheduler.stats.tierHitTokens).toBe(40);
    expectNothingHeld(engine);
  });

  test('adds to what the device still has, also where that ends inside a block', async () => {
    await using engine = await nullEngine({ numBlocks: 16, maxModelLen: 60, ...withHost() });
    const long = prompt(1, 49);
    await answer(engine, long);
    for (let other = 2; other < 5; other++) await answer(engine, prompt(other, 45));
    await answer(engine, [...long.slice(0, 18), 96, 96, 96], 1); // five blocks of the device begin alike, the fifth by half
    expect(await answer(engine, long)).toBe(48);
    expectNothingHeld(engine);
  });

  test('preempted requests get their blocks back from it, and generate the same', async () => {
    const run = async (options: EngineFixture) => {
      await using engine = await nullEngine({ numBlocks: 20, maxModelLen: 60, maxNumSeqs: 8, ...options });
      await Promise.all(Array.from({ length: 6 }, (_, i) => answer(engine, prompt(i, 20), 36)));
      expectNothingHeld(engine);
      return { ...engine.scheduler.stats };
    };
    const swapped = await run(withHost());
    const recomputed = await run({});
    expect(recomputed).toMatchObject({ numSwaps: 0, tierHitTokens: 0 });
    expect(recomputed.numPreemptions).toBeGreaterThan(3);
    expect(swapped.numSwaps).toBeGreaterThan(3);
    expect(swapped.tierHitTokens).toBeGreaterThan(50);
  });

  test('namespaces stay apart in it', async () => {
    await using engine = await nullEngine({ numBlocks: 16, maxModelLen: 60, ...withHost() });
    await answer(engine, prompt(1, 41), 3, 'a');
    for (let other = 2; other < 5; other++) await answer(engine, prompt(other, 41));
    expect(await answer(engine, prompt(1, 41), 3, 'b')).toBe(0);
    for (let other = 2; other < 5; other++) await answer(engine, prompt(other, 41));
    expect(await answer(engine, prompt(1, 41), 3, 'a')).toBe(40);
  });

  test('a request that is aborted while its blocks are on their way frees them at once, and what comes late touches nobody', async () => {
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const host = new HostTier(1 << 20);
    const slow: KvTier = {
      name: 'slow',
      find: (k) => host.find(k),
      put: (k, b) => host.put(k, b),
      stats: () => host.stats(),
      close: async () => {},
      get: (k) => gate.then(() => host.get(k)),
    };
    await using engine = await nullEngine({
      numBlocks: 16,
      maxModelLen: 60,
      ...slowSteps,
      tiers: ({ layout }) => new TierStack({ classDigest: layout, host: slow }),
    });
    await answer(engine, prompt(1, 41));
    for (let other = 2; other < 5; other++) await answer(engine, prompt(other, 41));
    const stream = engine.generate({ promptTokenIds: prompt(1, 41) }, { maxTokens: 3, seed: 0 });
    await expect.poll(() => engine.requests().map(({ waitsFor }) => waitsFor)).toEqual(['tier']);
    expect(engine.requests()[0].why).toMatch(/loaded from/);
    expect(engine.stats().kvBlocksReferenced).toBe(10);
    engine.scheduler.checkInvariants();
    stream.abort();
    await stream.then(undefined, () => undefined);
    expect(engine.stats().kvBlocksReferenced).toBe(0);
    const others = [6, 7, 8].map((other) => answer(engine, prompt(other, 41)));
    release();
    await Promise.all(others);
    expectNothingHeld(engine);
  });

  test.each<[string, KvTier['get']]>([
    ['answers nothing', async () => null],
    ['rejects', () => Promise.reject(new Error('broken'))],
    ['answers with too few bytes', async () => ({ groups: 1, bytes: new Uint8Array(3) })],
    ['answers with other groups', async () => ({ groups: 4, bytes: new Uint8Array(3) })],
  ])('one that promises and then %s costs nothing but time', async (_, get) => {
    const host = new HostTier(1 << 20);
    const broken: KvTier = {
      name: 'broken',
      find: (k) => host.find(k),
      put: (k, b) => host.put(k, b),
      stats: () => host.stats(),
      close: async () => {},
      get,
    };
    await using engine = await nullEngine({
      numBlocks: 16,
      maxModelLen: 60,
      ...slowSteps,
      tiers: ({ layout }) => new TierStack({ classDigest: layout, host: broken }),
    });
    for (let round = 0; round < 2; round++) for (let other = 1; other < 5; other++) await answer(engine, prompt(other, 41));
    expect(engine.scheduler.stats).toMatchObject({ tierHitTokens: 0 });
    expectNothingHeld(engine);
  });

  test('a request whose blocks never come computes them in the end, and those beside it go on meanwhile', async () => {
    const host = new HostTier(1 << 20);
    const silent: KvTier = {
      name: 'silent',
      find: (k) => host.find(k),
      put: (k, b) => host.put(k, b),
      stats: () => host.stats(),
      close: async () => {},
      get: () => new Promise(() => {}),
    };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const tiers = ({ layout }: { layout: string }) => new TierStack({ classDigest: layout, host: silent });
      await using engine = await nullEngine({ numBlocks: 16, maxModelLen: 60, ...slowSteps, tiers });
      await answer(engine, prompt(1, 41));
      for (let other = 2; other < 5; other++) await answer(engine, prompt(other, 41));
      const late = answer(engine, prompt(1, 41), 3);
      while (engine.requests().every(({ waitsFor }) => waitsFor !== 'tier')) await new Promise((resolve) => setImmediate(resolve));
      await answer(engine, prompt(9, 5), 3);
      expect(engine.requests()).toHaveLength(1);
      vi.advanceTimersByTime(31_000);
      await late;
      expectNothingHeld(engine);
    } finally {
      vi.useRealTimers();
    }
  });

  test('one that loses every other block gives what comes before the first that is lost', async () => {
    const host = new HostTier(1 << 20);
    let asked = 0;
    const leaky: KvTier = {
      name: 'leaky',
      find: (k) => host.find(k),
      put: (k, b) => host.put(k, b),
      stats: () => host.stats(),
      close: async () => {},
      get: async (k) => (asked++ === 5 ? null : host.get(k)),
    };
    await using engine = await nullEngine({
      numBlocks: 16,
      maxModelLen: 60,
      ...slowSteps,
      tiers: ({ layout }) => new TierStack({ classDigest: layout, host: leaky }),
    });
    for (let other = 1; other < 5; other++) await answer(engine, prompt(other, 41));
    expect(await answer(engine, prompt(1, 41))).toBe(20);
    expectNothingHeld(engine);
  });
});

test('where computing again is cheaper than moving, nothing is swapped', async () => {
  await using engine = await nullEngine({ numBlocks: 20, maxModelLen: 60, maxNumSeqs: 8, ...withHost(), backend: { stepMs: () => 1e-9 } });
  await Promise.all(Array.from({ length: 6 }, (_, i) => answer(engine, prompt(i, 20), 36)));
  const { numPreemptions, numSwaps } = engine.scheduler.stats;
  expect(numPreemptions).toBeGreaterThan(3);
  expect(numSwaps).toBeLessThanOrEqual(1); // the first is how it is measured
  expectNothingHeld(engine);
});

describe('a disk tier', () => {
  test('a restarted engine finds what the last one computed; another class finds nothing', async () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-disk-'));
    const onDisk = (classDigest: string): EngineFixture & typeof slowSteps => ({
      ...slowSteps,
      tiers: async () => new TierStack({ classDigest, disk: await DiskTier.open({ directory, limitBytes: 1 << 20, classDigest }) }),
    });
    try {
      for (const [classDigest, found] of [
        ['a', 0],
        ['a', 40],
        ['b', 0],
        ['a', 40],
      ] as const) {
        await using engine = await nullEngine({ numBlocks: 16, maxModelLen: 60, ...onDisk(classDigest) });
        expect(await answer(engine, prompt(1, 41))).toBe(found);
        expectNothingHeld(engine);
      }
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });

  test('prompts that come together after a restart are loaded once', async () => {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'millrace-disk-'));
    const onDisk: EngineFixture & typeof slowSteps = {
      ...slowSteps,
      tiers: async () => new TierStack({ classDigest: 'a', disk: await DiskTier.open({ directory, limitBytes: 1 << 20, classDigest: 'a' }) }),
    };
    try {
      {
        await using engine = await nullEngine({ numBlocks: 64, ...onDisk });
        await answer(engine, prompt(1, 41));
      }
      await using engine = await nullEngine({ numBlocks: 64, ...onDisk });
      const cached = await Promise.all(Array.from({ length: 5 }, () => answer(engine, prompt(1, 41))));
      expect(cached).toEqual([40, 40, 40, 40, 40]);
      expect(engine.scheduler.stats.tierHitTokens).toBe(40);
    } finally {
      fs.rmSync(directory, { recursive: true });
    }
  });
});

test('siblings share what a tier gives the first of them once it has come, and not before', async () => {
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const host = new HostTier(1 << 20);
  let isSlow = false;
  const slow: KvTier = {
    name: 'slow',
    find: (k) => host.find(k),
    put: (k, b) => host.put(k, b),
    stats: () => host.stats(),
    close: async () => {},
    get: async (k) => {
      if (isSlow) await gate;
      return host.get(k);
    },
  };
  await using engine = await nullEngine({
    numBlocks: 20,
    maxModelLen: 80,
    ...slowSteps,
    tiers: ({ layout }) => new TierStack({ classDigest: layout, host: slow }),
  });
  await answer(engine, prompt(1, 41));
  for (let other = 2; other < 5; other++) await answer(engine, prompt(other, 57));
  isSlow = true;
  const stream = engine.generate({ promptTokenIds: prompt(1, 41) }, { maxTokens: 3, seed: 0, n: 3 });
  await expect.poll(() => engine.requests().map(({ waitsFor }) => waitsFor)).toEqual(['tier', 'sibling', 'sibling']);
  engine.scheduler.checkInvariants();
  release();
  const { choices } = await stream;
  const context = (choice: number, count: number) => {
    const ids = prompt(1, 41);
    for (let i = 0; i < count; i++) ids.push(expectedToken(ids, VOCABULARY, [0, 0], choice));
    return ids.slice(41);
  };
  expect(choices.map(({ tokenIds }) => tokenIds)).toEqual([0, 1, 2].map((choice) => context(choice, 3)));
  expect(engine.scheduler.stats.tierHitTokens).toBe(40);
  expectNothingHeld(engine);
});
