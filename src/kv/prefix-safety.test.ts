/** What has poisoned prefix caches in the field, one test each: nobody gets K and V of something else than what it asked. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { resolveSamplingParams } from '../sampling/params.ts';
import { Request } from '../scheduler/request.ts';
import { Scheduler } from '../scheduler/scheduler.ts';
import { KvCache } from './kv-cache.ts';
import { MediaKeys } from './media-keys.ts';
import { namespaceOf } from './namespace.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 8 };
const full = (numBlocks: number) => ({ name: 'full', kind: 'full', numBlocks, ...shape }) as const;
const windowed = (numBlocks: number, window: number) => ({ name: 'window', kind: 'window', window, numBlocks, ...shape }) as const;
const range = (n: number, from = 0) => Array.from({ length: n }, (_, i) => from + i);

/** Computes a prompt in steps of at most `chunk` and lets go of it. @returns tokens found */
function serve(kv: KvCache, ids: Int32Array | number[], namespace = '', chunk = 1000): number {
  const tokens = Int32Array.from(ids);
  const sequence = kv.open();
  const found = kv.matchPrefix(sequence, tokens, tokens.length - 1, namespace);
  for (let computed = found; computed < tokens.length; ) {
    const end = Math.min(tokens.length, computed + chunk);
    expect(kv.allocate(sequence, computed, end)).toBe(true);
    kv.publish(sequence, tokens, end);
    kv.check([sequence]);
    computed = end;
  }
  kv.drainCopies({ copies: new Int32Array(64) });
  kv.free(sequence, tokens, tokens.length);
  kv.check([]);
  return found;
}

describe('namespaces', () => {
  test('an adapter is known by its content and scale: another one under the same name shares nothing', () => {
    const kv = new KvCache({ groups: [full(32)], blockSize: 4, enablePrefixCaching: true });
    const spaces = [
      namespaceOf({}),
      namespaceOf({ adapter: { digest: 'sha256 of one', scale: 1 } }),
      namespaceOf({ adapter: { digest: 'sha256 of another', scale: 1 } }),
      namespaceOf({ adapter: { digest: 'sha256 of one', scale: 0.5 } }),
      namespaceOf({ adapter: { digest: 'sha256 of one', scale: 1 }, cacheSalt: 'tenant' }),
    ];
    expect(new Set(spaces).size).toBe(spaces.length);
    for (const space of spaces) expect(serve(kv, range(8), space)).toBe(0);
    for (const space of spaces) expect(serve(kv, range(8), space)).toBe(7);
  });

  test('no two lists of parts read alike, wherever one part ends and the next begins', () => {
    const part = fc.string({ unit: fc.constantFrom('a', ':', '1', '\0'), maxLength: 4 });
    fc.assert(
      fc.property(part, part, part, part, (saltA, digestA, saltB, digestB) => {
        const a = namespaceOf({ cacheSalt: saltA, adapter: { digest: digestA, scale: 1 } });
        const b = namespaceOf({ cacheSalt: saltB, adapter: { digest: digestB, scale: 1 } });
        expect(a === b).toBe(saltA === saltB && digestA === digestB);
      }),
    );
    expect(namespaceOf({ cacheSalt: 'x' })).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe('media', () => {
  const PLACEHOLDER = 9;
  const withImage = (before: number, length: number) =>
    Int32Array.from([...range(before, 20), ...Array<number>(length).fill(PLACEHOLDER), ...range(6, 50)]);
  const keyed = (media: MediaKeys, before: number, length: number, digest: string) =>
    media.keysOf(withImage(before, length), [{ start: before, length, digest }]).keys;

  test('equal texts with different images share what comes before the image, to the token', () => {
    const media = new MediaKeys();
    const kv = new KvCache({ groups: [full(32)], blockSize: 4, enablePrefixCaching: true });
    expect(serve(kv, keyed(media, 6, 8, 'cat'))).toBe(0);
    expect(serve(kv, keyed(media, 6, 8, 'dog'))).toBe(6);
    expect(serve(kv, keyed(media, 6, 8, 'cat'))).toBe(19);
  });

  test('the same image at another place of a block, in another number of tokens, or a part of it in place of another is something else', () => {
    const media = new MediaKeys();
    const kv = new KvCache({ groups: [full(64)], blockSize: 4, enablePrefixCaching: true });
    serve(kv, keyed(media, 4, 8, 'cat'));
    expect(serve(kv, keyed(media, 4, 9, 'cat'))).toBe(4);
    // the block [4, 8) begins with the third token of the image, not the first
    const cut = media.keysOf(Int32Array.from([...range(2, 20), ...Array<number>(8).fill(PLACEHOLDER), 1]), [
      { start: 2, length: 8, digest: 'cat' },
    ]).keys;
    expect([...cut.subarray(4, 8)]).not.toEqual([...keyed(media, 4, 8, 'cat').subarray(4, 8)]);
    expect(serve(kv, cut)).toBe(2);
  });

  test('no key of media is a token id, and no two images share one', () => {
    const media = new MediaKeys();
    const seen = new Set<number>();
    for (let i = 0; i < 50; i++)
      for (const key of keyed(media, 0, 8, `image ${i}`).subarray(0, 8)) {
        expect(key).toBeLessThan(0);
        expect(seen.has(key)).toBe(false);
        seen.add(key);
      }
  });

  test('what it remembers is bounded, and numbers that have run out mean nothing old', () => {
    const small = new MediaKeys(10);
    for (let i = 0; i < 100; i++) keyed(small, 0, 8, `image ${i}`);
    expect(small.numDigests).toBe(10);
    const media = new MediaKeys(100, -(2 ** 31) + 12);
    const first = media.keysOf(withImage(0, 8), [{ start: 0, length: 8, digest: 'a' }]);
    const second = media.keysOf(withImage(0, 8), [{ start: 0, length: 8, digest: 'b' }]);
    expect([first.namespaceSuffix, second.namespaceSuffix]).toEqual(['', ';media 1']);
    expect(Math.min(...first.keys)).toBeGreaterThanOrEqual(-(2 ** 31));
  });

  test('spans that overlap or reach beyond the prompt are refused', () => {
    const media = new MediaKeys();
    const spans = [
      [{ start: 15, length: 10, digest: 'a' }],
      [
        { start: 0, length: 4, digest: 'a' },
        { start: 3, length: 2, digest: 'b' },
      ],
      [{ start: -1, length: 2, digest: 'a' }],
    ];
    for (const wrong of spans) expect(() => media.keysOf(withImage(6, 8), wrong)).toThrow(/overlap or reach beyond/);
  });
});

test('drafts enter the tree only when they are verified, and one that was rejected is found by nobody', () => {
  const kv = new KvCache({ groups: [full(32)], blockSize: 2, enablePrefixCaching: true });
  const scheduler = new Scheduler({ kv, maxNumSeqs: 4, maxNumBatchedTokens: 32, maxModelLen: 100, maxQueue: 10, maxDraftTokens: 4 });
  const params = resolveSamplingParams({ maxTokens: 20, seed: 1 }, { maxTokens: 100, vocabSize: 100, drawSeed: () => 1 });
  const request = new Request({ id: 'a', promptTokenIds: Int32Array.of(1, 2, 3, 4), params, arrivalMs: 0 }, 4);
  scheduler.add([request]);
  const step = (samples: number[]) => {
    const batch = scheduler.schedule(0);
    expect(batch.totalLogitRows).toBe(samples.length);
    const during = kv.prefixLength(Int32Array.of(1, 2, 3, 4, 50, 51, 52, 53, 54, 9), 9);
    scheduler.commit(batch, Int32Array.from(samples));
    scheduler.checkInvariants();
    return during;
  };
  step([50]);
  request.draftTokenIds.set([51, 52, 53]);
  request.numDraftTokens = 3;
  expect(step([51, 52, 77, 78])).toBe(4); // in flight nothing of them is to be found
  // 51 and 52 were right, 53 was not: 77 stands in its place and is not computed yet
  expect([...request.tokenIds.subarray(4, 8)]).toEqual([50, 51, 52, 77]);
  expect(kv.prefixLength(Int32Array.of(1, 2, 3, 4, 50, 51, 52, 53, 54, 9), 9)).toBe(6);
  scheduler.abort(request);
  expect(kv.prefixLength(Int32Array.of(1, 2, 3, 4, 50, 51, 52, 53, 54, 9), 9)).toBe(7);
  expect(kv.prefixLength(Int32Array.of(1, 2, 3, 4, 50, 51, 52, 77, 9), 8)).toBe(7);
  kv.check([]);
});

describe('groups that keep texts differently, as Gemma has them', () => {
  const gemma = () => new KvCache({ groups: [full(64), windowed(12, 8)], blockSize: 4, enablePrefixCaching: true });

  test('a conversation that goes on finds all of its history, though most of it has slid out of the window', () => {
    const kv = gemma();
    let history = range(30);
    expect(serve(kv, history, '', 8)).toBe(0);
    for (let turn = 1; turn < 5; turn++) {
      const before = history.length;
      history = [...history, ...range(7, 1000 * turn)];
      expect(serve(kv, history, '', 8)).toBe(before);
    }
  });

  test('a branch in the middle resumes where the window is still there, and never where it is not', () => {
    const kv = gemma();
    const long = range(60);
    serve(kv, long, '', 8);
    const found = serve(kv, [...long.slice(0, 40), 999, 998], '', 8);
    // the window group has 12 blocks for 15: which of them are left decides
    expect(found % 4 === 0 || found === 40).toBe(true);
    expect(serve(kv, [...long.slice(0, 40), 999, 998, 997], '', 8)).toBe(42);
  });

  test('a latent group keeps all of a text, beside a window or alone', () => {
    const latent = { name: 'latent', kind: 'latent', numBlocks: 32, ...shape } as const;
    for (const groups of [[latent], [latent, windowed(12, 8)]]) {
      const kv = new KvCache({ groups, blockSize: 4, enablePrefixCaching: true });
      serve(kv, range(40), '', 8);
      expect(serve(kv, [...range(40), 77], '', 8)).toBe(40);
      if (groups.length === 1) expect(serve(kv, [...range(21), 77])).toBe(21);
    }
  });
});
