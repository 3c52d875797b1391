/** Each policy on the trace that it is for, against `lru`; and that all of them evict from the leaves. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { numbers } from '../../../test/fixtures/schedule-trace.ts';
import { NO_BLOCK } from '../block-pool.ts';
import { KvCache } from '../kv-cache.ts';
import { type EvictionPolicyName, evictionPolicies } from './index.ts';
import { EvictionOrder } from './order.ts';

const BLOCK = 4;

function cacheOf(policy: EvictionPolicyName, numBlocks: number, ttlMs = 1000): KvCache {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  return new KvCache({ groups, blockSize: BLOCK, enablePrefixCaching: true, eviction: evictionPolicies[policy]({ ttlMs }) });
}

/** Computes a prompt and lets go of it. @returns tokens found */
function serve(kv: KvCache, ids: readonly number[], nowMs = 0, priority = 0): number {
  kv.tick(nowMs);
  const tokens = Int32Array.from(ids);
  const sequence = kv.open(priority);
  const hit = kv.matchPrefix(sequence, tokens, tokens.length - 1);
  expect(kv.allocate(sequence, hit, tokens.length)).toBe(true);
  kv.drainCopies({ copies: new Int32Array(64) });
  kv.free(sequence, tokens, tokens.length);
  kv.check([]);
  return hit;
}

/** A text of whole blocks that no other begins like. */
const text = (name: number, blocks: number) => Array.from({ length: blocks * BLOCK }, (_, i) => name * 1000 + i);

describe('lru', () => {
  test('keeps conversations that go on, where lfu keeps what was popular before', () => {
    const hits = (policy: EvictionPolicyName) => {
      const kv = cacheOf(policy, 24);
      for (let i = 0; i < 30; i++) serve(kv, [...text(1, 14), 9_000_000 + i]); // popular once
      let sum = 0;
      // four conversations in turn, each longer every time
      for (let turn = 1; turn <= 3; turn++) for (let user = 2; user < 6; user++) sum += serve(kv, [...text(user, turn), 8_000_000 + turn]);
      return sum;
    };
    expect(hits('lru')).toBeGreaterThan(1.2 * hits('lfu'));
  });
});

describe('lfu', () => {
  /** A system prompt that every third request shares, among prompts that come once and fill the cache each time. */
  const hits = (policy: EvictionPolicyName, popular: (i: number) => number) => {
    const kv = cacheOf(policy, 16);
    let sum = 0;
    for (let i = 0; i < 200; i++) {
      if (i % 8 === 0 || i % 8 === 1) sum += serve(kv, [...text(popular(i), 4), 7_000_000 + i]);
      else serve(kv, text(100 + i, 3));
    }
    return sum;
  };

  test('keeps a prompt that many share through a flood of prompts that come once', () => {
    expect(hits('lfu', () => 1)).toBeGreaterThan(1.5 * hits('lru', () => 1));
  });

  test('forgets what was popular when something else is', () => {
    const changing = hits('lfu', (i) => (i < 100 ? 1 : 2));
    expect(changing).toBeGreaterThan(0.8 * hits('lfu', () => 1));
  });
});

describe('priority', () => {
  const urgentHits = (policy: EvictionPolicyName, hours: number) => {
    const kv = cacheOf(policy, 16);
    let sum = 0;
    for (let i = 0; i < 100; i++) {
      const nowMs = i * 1000 + (i >= 50 ? hours * 3_600_000 : 0);
      if (i % 10 === 0) sum += serve(kv, [...text(1, 4), 7_000_000 + i], nowMs, -5);
      else serve(kv, text(100 + i, 4), nowMs, 5);
    }
    return sum;
  };

  test('keeps what urgent requests began with through a flood of others', () => {
    expect(urgentHits('priority', 0)).toBe(9 * 16);
    expect(urgentHits('lru', 0)).toBe(0);
  });

  test('keeps nothing for ever: what nobody has asked for in hours goes, however urgent it was', () => {
    const kv = cacheOf('priority', 16);
    serve(kv, text(1, 4), 0, -5);
    for (let i = 0; i < 4; i++) serve(kv, text(100 + i, 4), 3 * 3_600_000 + i, 5);
    expect(serve(kv, [...text(1, 4), 1], 3 * 3_600_000 + 10)).toBe(0);
  });
});

describe('ttl', () => {
  test('forgets a prefix that nobody has used for so long, though there is room, and not one that is used', () => {
    const kv = cacheOf('ttl', 64, 1000);
    serve(kv, text(1, 4), 0);
    serve(kv, text(2, 4), 0);
    for (let nowMs = 0; nowMs <= 5000; nowMs += 900) expect(serve(kv, [...text(1, 4), 5], nowMs)).toBeGreaterThanOrEqual(15);
    expect(kv.numEvicted).toBeGreaterThanOrEqual(4);
    expect(kv.prefixLength(Int32Array.from(text(2, 4)), 16)).toBe(0);
    kv.tick(10_000);
    expect([kv.numCached, kv.numNodes]).toEqual([0, 0]);
    const kept = cacheOf('lru', 64);
    serve(kept, text(1, 4), 0);
    kept.tick(1e12);
    expect(kept.numCached).toBe(4);
  });

  test('a clock that jumps back forgets nothing early and breaks nothing', () => {
    const kv = cacheOf('ttl', 64, 1000);
    serve(kv, text(1, 4), 5000);
    serve(kv, text(2, 4), 10);
    expect(serve(kv, [...text(1, 4), 5], 10)).toBe(16);
  });
});

test.each(Object.keys(evictionPolicies) as EvictionPolicyName[])(
  '%s takes leaves first, so no prefix loses its beginning before its end',
  (policy) => {
    const kv = cacheOf(policy, 24);
    const draw = numbers(7);
    for (let i = 0; i < 400; i++) {
      const shared = text(1 + Math.floor(draw() * 3), 1 + Math.floor(draw() * 4));
      // `check` finds a cached block that may not go though it is a leaf, or may though it is none
      serve(kv, [...shared, ...text(100 + i, 1 + Math.floor(draw() * 2))], i * 7, Math.floor(draw() * 5) - 2);
    }
    expect(kv.numEvicted).toBeGreaterThan(100);
  },
);

test('the order of eviction is that of a sorted list, whatever enters and leaves', () => {
  const actions = fc.array(fc.tuple(fc.nat(15), fc.nat(4)), { maxLength: 120 });
  fc.assert(
    fc.property(actions, (list) => {
      const order = new EvictionOrder(16);
      const expected: { block: number; key: number }[] = [];
      for (const [block, key] of list) {
        const at = expected.findIndex((entry) => entry.block === block);
        if (at < 0) {
          order.add(block, key);
          expected.push({ block, key });
        } else {
          order.remove(block);
          expected.splice(at, 1);
        }
        const first = expected.reduce<{ block: number; key: number } | null>((best, one) => (best === null || one.key < best.key ? one : best), null);
        expect(order.first).toBe(first?.block ?? NO_BLOCK);
        expect(order.size).toBe(expected.length);
      }
    }),
  );
});
