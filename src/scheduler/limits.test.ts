import { describe, expect, test } from 'vitest';
import type { MillraceError } from '../base/errors.ts';
import { KvCache } from '../kv/kv-cache.ts';
import { resolveSamplingParams } from '../sampling/params.ts';
import { Request } from './request.ts';
import { Scheduler, type SchedulerOptions } from './scheduler.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 8 };

function schedulerWith({ numBlocks = 64, ...rest }: Partial<SchedulerOptions> & { numBlocks?: number } = {}) {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks, ...shape }];
  const kv = new KvCache({ groups, blockSize: 4, enablePrefixCaching: true });
  return new Scheduler({ maxNumSeqs: 8, maxNumBatchedTokens: 16, maxModelLen: 1000, maxQueue: 100, ...rest, kv });
}

let nextId = 0;
function request(prompt: number | number[], maxTokens = 4, extra: Partial<ConstructorParameters<typeof Request>[0]> = {}): Request {
  const ids = typeof prompt === 'number' ? Array.from({ length: prompt }, (_, i) => (nextId + 1) * 100 + i) : prompt;
  const params = resolveSamplingParams({ maxTokens, seed: 1 }, { maxTokens: 1000, vocabSize: 1000, drawSeed: () => 1 });
  return new Request({ id: `r${nextId++}`, promptTokenIds: Int32Array.from(ids), params, arrivalMs: 0, ...extra });
}

/** Runs one step with made-up tokens. */
function step(scheduler: Scheduler): void {
  const batch = scheduler.schedule(0);
  scheduler.commit(batch, new Int32Array(batch.totalLogitRows).fill(7));
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as MillraceError).code;
  }
  return 'nothing thrown';
}

describe('limits', () => {
  test('a request that waits too long for its first step fails with the reason; one that has run never does', () => {
    const scheduler = schedulerWith({ maxNumSeqs: 1, maxQueueMs: 100 });
    const [runs, waits] = [request(3, 50), request(3, 50)];
    scheduler.add([runs, waits]);
    scheduler.commit(scheduler.schedule(0), Int32Array.of(7));
    let batch = scheduler.schedule(99);
    expect(batch.failed).toEqual([]);
    scheduler.commit(batch, Int32Array.of(7));
    batch = scheduler.schedule(100);
    expect(batch.failed).toEqual([waits]);
    expect(waits.error?.code).toBe('QUEUE_TIMEOUT');
    expect([waits.error?.status, batch.numRows]).toEqual([503, 1]);
    scheduler.commit(batch, Int32Array.of(7));
    expect(scheduler.schedule(10_000).failed).toEqual([]);
  });

  test('a deadline ends a request that waits, and one that runs, and frees its blocks', () => {
    const scheduler = schedulerWith({ maxNumSeqs: 1 });
    const [runs, waits, free] = [request(3, 50, { deadlineMs: 40 }), request(3, 50, { deadlineMs: 20 }), request(3, 50)];
    scheduler.add([runs, waits, free]);
    scheduler.commit(scheduler.schedule(0), Int32Array.of(7));
    let batch = scheduler.schedule(20);
    expect(batch.failed).toEqual([waits]);
    scheduler.commit(batch, Int32Array.of(7));
    batch = scheduler.schedule(41);
    expect(batch.failed).toEqual([runs]);
    expect(runs.error?.code).toBe('DEADLINE_EXCEEDED');
    expect(batch.requests).toEqual([free]);
    scheduler.commit(batch, Int32Array.of(7));
    scheduler.checkInvariants();
  });

  test('nothing but expired requests fails nobody else', () => {
    const scheduler = schedulerWith({ maxQueueMs: 10, maxNumSeqs: 1 });
    const [late, fresh] = [request(3), request(3, 4, { arrivalMs: 15 })];
    scheduler.add([late, fresh]);
    const batch = scheduler.schedule(20);
    expect(batch.failed).toEqual([late]);
    expect(batch.requests).toEqual([fresh]);
  });

  test('a tenant may have so many unfinished requests, others are not affected', () => {
    const scheduler = schedulerWith({ maxTenantSeqs: 2 });
    const of = (tenant: string) => request(3, 4, { tenant });
    const first = of('a');
    scheduler.add([first, of('a')]);
    expect(codeOf(() => scheduler.add([of('a')]))).toBe('TENANT_LIMIT');
    scheduler.add([of('b')]);
    scheduler.abort(first);
    scheduler.abort(first);
    scheduler.add([of('a')]);
    expect(codeOf(() => scheduler.add([of('b'), of('b')]))).toBe('TENANT_LIMIT');
    expect(scheduler.numWaiting).toBe(3);
  });
});

describe('why requests wait', () => {
  const reasons = (scheduler: Scheduler) => scheduler.report(0).map(({ waitsFor }) => waitsFor);

  test('too few rows, too few tokens, too few blocks, and those behind', () => {
    const rows = schedulerWith({ maxNumSeqs: 1 });
    rows.add([request(3), request(3), request(3)]);
    expect(reasons(rows)).toEqual(['new', 'new', 'new']);
    rows.schedule(0);
    expect(reasons(rows)).toEqual([null, 'rows', 'behind']);
    expect(rows.report(0)[2].why).toBe('It is behind 1 others.');

    const tokens = schedulerWith({ maxNumBatchedTokens: 8 });
    tokens.add([request(8), request(3)]);
    tokens.schedule(0);
    expect(reasons(tokens)).toEqual([null, 'tokens']);

    const blocks = schedulerWith({ numBlocks: 8, maxNumBatchedTokens: 64 });
    blocks.add([request(20), request(14)]);
    blocks.schedule(0);
    expect(reasons(blocks)).toEqual([null, 'blocks']);
    expect(blocks.report(0)[1].why).toMatch(/14 tokens need up to 4, and of 8 in all 5 are held/);
  });

  test('room that is kept for the others to grow', () => {
    const scheduler = schedulerWith({ numBlocks: 12, maxNumBatchedTokens: 64 });
    scheduler.add([request(15, 20), request(15, 20)]);
    scheduler.schedule(0);
    expect(reasons(scheduler)).toEqual([null, 'peak']);
  });

  test('a sibling or somebody else who computes the same prompt, while others overtake', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 10, maxNumSeqs: 2 });
    const first = request(13);
    const ids = [...first.tokenIds.subarray(0, 13)];
    scheduler.add([first, request(ids, 4, { choice: 1, sibling: first }), request(ids), request(3), request(3)]);
    step(scheduler);
    scheduler.schedule(0);
    // running: the first and, past those who wait for it, the fourth
    expect(reasons(scheduler)).toEqual([null, null, 'sibling', 'prefix', 'rows']);
  });
});
