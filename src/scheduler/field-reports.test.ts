/** What has broken other engines (docs/field-reports.md), where no other test shows that it does not break this one. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { nullEngine } from '../../test/fixtures/engine.ts';
import { expectedToken } from '../backends/null/null-backend.ts';
import { KvCache } from '../kv/kv-cache.ts';
import type { KvSequence } from '../kv/sequence.ts';
import { resolveSamplingParams } from '../sampling/params.ts';
import { Request } from './request.ts';
import { Scheduler } from './scheduler.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 8 };
const full = (numBlocks: number) => ({ name: 'full', kind: 'full', numBlocks, ...shape }) as const;
const windowed = (numBlocks: number) => ({ name: 'window', kind: 'window', window: 6, numBlocks, ...shape }) as const;

let nextId = 0;
function request(promptTokens: number, maxTokens: number): Request {
  const promptTokenIds = Int32Array.from({ length: promptTokens }, (_, i) => (nextId + 1) * 100 + i);
  const params = resolveSamplingParams({ maxTokens, seed: 1 }, { maxTokens: 1000, vocabSize: 1000, drawSeed: () => 1 });
  return new Request({ id: `r${nextId++}`, promptTokenIds, params, arrivalMs: 0 });
}

function schedulerWith(numBlocks: number): Scheduler {
  const kv = new KvCache({ groups: [full(numBlocks)], blockSize: 4, enablePrefixCaching: true });
  return new Scheduler({ kv, maxNumSeqs: 8, maxNumBatchedTokens: 32, maxModelLen: 1000, maxQueue: 100, watermark: 0, estimatePeak: false });
}

function step(scheduler: Scheduler): void {
  const batch = scheduler.schedule(0);
  scheduler.commit(batch, new Int32Array(batch.totalLogitRows).fill(7));
  scheduler.checkInvariants();
}

test('when nobody holds anything, every block can be had at once, whatever is remembered', () => {
  const life = fc.record({
    length: fc.integer({ min: 1, max: 40 }),
    same: fc.integer({ min: 0, max: 40 }),
    computed: fc.integer({ min: 0, max: 40 }),
  });
  fc.assert(
    fc.property(fc.array(life, { minLength: 1, maxLength: 30 }), fc.boolean(), (lives, hasWindow) => {
      const kv = new KvCache({ groups: hasWindow ? [full(16), windowed(16)] : [full(16)], blockSize: 4, enablePrefixCaching: true });
      const open: { sequence: KvSequence; ids: Int32Array; computed: number }[] = [];
      lives.forEach(({ length, same, computed }, who) => {
        const ids = Int32Array.from({ length }, (_, i) => (i < same ? i : 1000 * (who + 1) + i));
        const sequence = kv.open();
        const matched = kv.matchPrefix(sequence, ids, length - 1);
        const target = Math.max(matched, Math.min(length, computed));
        const fits = kv.allocate(sequence, matched, Math.max(1, target));
        open.push({ sequence, ids, computed: fits ? target : matched });
        kv.drainCopies({ copies: new Int32Array(0) });
        if (who % 3 === 2) for (const held of open.splice(0, 2)) kv.free(held.sequence, held.ids, held.computed);
      });
      for (const { sequence, ids, computed } of open) kv.free(sequence, ids, computed);
      kv.check([]);
      const all = kv.open();
      expect(kv.allocate(all, 0, 64)).toBe(true);
      expect([kv.numCached, kv.numFree]).toEqual([0, 0]);
      kv.check([all]);
    }),
  );
});

test('what ends gives its blocks back at once, though no step follows and the pool was full', () => {
  const scheduler = schedulerWith(8);
  const [first, second, third] = [request(15, 2), request(15, 2), request(20, 2)];
  scheduler.add([first, second, third]);
  step(scheduler);
  expect(scheduler.kv.numFree).toBe(0);
  scheduler.abort(first);
  expect(scheduler.kv.numReferenced).toBe(4);
  scheduler.finish(second);
  expect(scheduler.kv.numReferenced).toBe(0);
  step(scheduler);
  expect(third.status).toBe('running');
});

test('who gave way to an older request says so, and how often it had to', () => {
  const scheduler = schedulerWith(6);
  const [older, younger] = [request(11, 12), request(7, 12)];
  scheduler.add([older, younger]);
  for (let i = 0; i < 20 && younger.numPreemptions === 0; i++) step(scheduler);
  expect(younger.numPreemptions).toBe(1);
  expect(scheduler.report(0).find(({ id }) => id === younger.id)).toMatchObject({ waitsFor: 'preemption', preemptions: 1 });
});

test('a request may have the whole context to itself, however many rows there may be', async () => {
  const engine = await nullEngine({ blockSize: 4, numBlocks: 24, maxNumSeqs: 16, maxNumBatchedTokens: 32 });
  const prompt = Array.from({ length: 60 }, (_, i) => (i * 5) % 97);
  const wanted = [...prompt];
  for (let i = 0; i < 36; i++) wanted.push(expectedToken(wanted, 97));
  const others = [1, 2, 3].map((seed) => engine.generate({ promptTokenIds: [seed, 2, 3] }, { maxTokens: 40, temperature: 0, seed: 0 }));
  const { choices } = await engine.generate({ promptTokenIds: prompt }, { maxTokens: 10_000, temperature: 0, seed: 0 });
  expect(choices[0].tokenIds).toEqual(wanted.slice(60));
  await Promise.all(others);
  await engine.close();
});
