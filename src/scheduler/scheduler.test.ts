import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { MillraceError } from '../base/errors.ts';
import { KvCache } from '../kv/kv-cache.ts';
import { type ResolvedSamplingParams, resolveSamplingParams } from '../sampling/params.ts';
import { Request } from './request.ts';
import { describeBatch, type ScheduledBatch } from './scheduled-batch.ts';
import { Scheduler, type SchedulerOptions } from './scheduler.ts';

const shape = { numLayers: 1, numKvHeads: 1, headDim: 8 };

function schedulerWith(
  options: Partial<SchedulerOptions> & { numBlocks?: number; blockSize?: number; window?: number; numWindowBlocks?: number } = {},
) {
  const { numBlocks = 64, blockSize = 4, window, numWindowBlocks = numBlocks, ...rest } = options;
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks, ...shape }];
  const windowGroup = window === undefined ? [] : [{ name: 'window', kind: 'window' as const, window, numBlocks: numWindowBlocks, ...shape }];
  const kv = options.kv ?? new KvCache({ groups: [...groups, ...windowGroup], blockSize, enablePrefixCaching: true });
  return new Scheduler({ maxNumSeqs: 8, maxNumBatchedTokens: 16, maxModelLen: 1000, maxQueue: 100, ...rest, kv });
}

function params(maxTokens = 4): ResolvedSamplingParams {
  return resolveSamplingParams({ maxTokens, seed: 1 }, { maxTokens: 1000, vocabSize: 1000, drawSeed: () => 1 });
}

let nextId = 0;
function request(prompt: number | number[], maxTokens = 4, extra: Partial<ConstructorParameters<typeof Request>[0]> = {}, maxDraft = 0): Request {
  const ids = typeof prompt === 'number' ? Array.from({ length: prompt }, (_, i) => (nextId + 1) * 100 + i) : prompt;
  return new Request({ id: `r${nextId++}`, promptTokenIds: Int32Array.from(ids), params: params(maxTokens), arrivalMs: 0, ...extra }, maxDraft);
}

/** Runs one step with made-up tokens and ends requests that are done. */
function step(scheduler: Scheduler, token = 7): ReturnType<typeof describeBatch> {
  const batch = scheduler.schedule(0);
  const description = describeBatch(batch);
  if (batch.numRows > 0) {
    scheduler.commit(batch, new Int32Array(batch.totalLogitRows).fill(token));
    for (const row of [...batch.requests]) if (row.numOutputTokens >= row.params.maxTokens) scheduler.finish(row);
  }
  scheduler.checkInvariants();
  return description;
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as MillraceError).code;
  }
  return 'nothing thrown';
}

describe('the one counter', () => {
  test('a prompt is computed in chunks of the budget and gets logits only when it is caught up', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 8 });
    scheduler.add([request(20, 2)]);
    const steps = [step(scheduler), step(scheduler), step(scheduler), step(scheduler)];
    expect(steps.map(({ rows }) => [rows[0].firstToken, rows[0].numNewTokens, rows[0].numLogitRows])).toEqual([
      [0, 8, 0],
      [8, 8, 0],
      [16, 4, 1],
      [20, 1, 1],
    ]);
    expect(scheduler.hasWork).toBe(false);
  });

  test('decodes go on beside the chunks of a long prompt', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 8 });
    scheduler.add([request(3, 10)]);
    step(scheduler);
    scheduler.add([request(30, 1)]);
    const { rows } = step(scheduler);
    expect(rows.map((row) => row.numNewTokens)).toEqual([1, 7]);
  });

  test('an older long prompt leaves younger running requests their token', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 8 });
    const long = request(30, 5);
    scheduler.add([long]);
    step(scheduler);
    expect(long.numComputedTokens).toBe(8);
    // both are running now: the long one is older and still has 22 tokens to go
    scheduler.add([request(2, 10)]);
    for (let i = 0; i < 3; i++) step(scheduler);
    const young = request(2, 10);
    scheduler.add([young]);
    for (let i = 0; i < 4; i++) step(scheduler);
    expect(young.numOutputTokens).toBeGreaterThan(0);
  });

  test('drafts are computed with the row, accepted while they equal the samples, and dropped after the first that differs', () => {
    const scheduler = schedulerWith();
    const drafted = request(5, 10, {}, 4);
    scheduler.add([drafted]);
    step(scheduler, 50);
    drafted.draftTokenIds.set([51, 52, 53]);
    drafted.numDraftTokens = 3;
    const batch = scheduler.schedule(0);
    expect([batch.totalTokens, batch.totalLogitRows]).toEqual([4, 4]);
    // samples after: the last token, draft 51, draft 52, draft 53
    const { numAppended } = scheduler.commit(batch, Int32Array.of(51, 52, 99, 98));
    expect(numAppended[0]).toBe(3);
    expect([...drafted.tokenIds.subarray(5, drafted.numTokens)]).toEqual([50, 51, 52, 99]);
    expect(drafted.numComputedTokens).toBe(8);
    expect(drafted.numBehind).toBe(1);
    scheduler.checkInvariants();
  });
});

describe('memory', () => {
  test('preempts the youngest request when blocks run out, which later computes again what it had', () => {
    const scheduler = schedulerWith({ numBlocks: 6, maxNumBatchedTokens: 32, watermark: 0, estimatePeak: false });
    const old = request(11, 8);
    const young = request(7, 8);
    scheduler.add([old, young]);
    step(scheduler);
    expect(scheduler.numRunning).toBe(2);
    let preempted: string[] = [];
    for (let i = 0; i < 12 && preempted.length === 0; i++) preempted = step(scheduler).preempted;
    expect(preempted).toEqual([young.id]);
    for (let i = 0; i < 30; i++) step(scheduler);
    expect([old.numOutputTokens, young.numOutputTokens]).toEqual([8, 8]);
    expect(young.numPreemptions).toBe(1);
    expect(scheduler.hasWork).toBe(false);
  });

  test('a preempted request goes before those that arrived after it', () => {
    const scheduler = schedulerWith({ numBlocks: 6, maxNumBatchedTokens: 32, watermark: 0, estimatePeak: false });
    const [old, young, later] = [request(11, 12), request(7, 12), request(4, 2)];
    scheduler.add([old, young]);
    step(scheduler);
    scheduler.add([later]);
    for (let i = 0; i < 6; i++) step(scheduler);
    expect(scheduler.oldestWaiting).toBe(young);
  });

  test('a request starts only when all its tokens fit beside what runs', () => {
    const scheduler = schedulerWith({ numBlocks: 8, maxNumBatchedTokens: 8 });
    scheduler.add([request(20, 4), request(14, 4)]);
    expect(step(scheduler).rows).toHaveLength(1);
    expect(step(scheduler).rows).toHaveLength(1);
    expect(scheduler.numWaiting).toBe(1);
  });

  test('a request that can never fit is refused when it comes, with both counts', () => {
    const scheduler = schedulerWith({ numBlocks: 4 });
    expect(codeOf(() => scheduler.add([request(10, 20)]))).toBe('KV_OUT_OF_BLOCKS');
    expect(() => scheduler.add([request(10, 20)])).toThrow(/4 blocks.*8 blocks/);
    expect(scheduler.hasWork).toBe(false);
  });

  test('a request that turns out not to fit fails instead of waiting for ever', () => {
    // blocks vanish behind the scheduler's back: somebody else's sequence holds them
    const scheduler = schedulerWith({ numBlocks: 4 });
    const stolen = scheduler.kv.open();
    scheduler.kv.matchPrefix(
      stolen,
      Int32Array.from({ length: 12 }, (_, i) => i),
      11,
    );
    expect(scheduler.kv.allocate(stolen, 0, 12)).toBe(true);
    const stuck = request(8, 4);
    scheduler.add([stuck]);
    const batch = scheduler.schedule(0);
    expect(batch.numRows).toBe(0);
    expect(batch.failed).toEqual([stuck]);
    expect(stuck.error?.code).toBe('KV_OUT_OF_BLOCKS');
    expect(scheduler.hasWork).toBe(false);
  });

  test('a remembered prefix that is in its own way gives way', () => {
    const scheduler = schedulerWith({ numBlocks: 3, maxNumBatchedTokens: 16 });
    const ids = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
    scheduler.add([request(ids, 2)]);
    while (scheduler.hasWork) step(scheduler);
    const same = request([1, 2, 3, 4, 5, 6, 7, 8, 9, 20], 2);
    scheduler.add([same]);
    for (let i = 0; i < 5; i++) step(scheduler);
    expect(same.numOutputTokens).toBe(2);
  });
});

describe('prefixes and siblings', () => {
  test('a second request computes only what differs, to the token', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 64 });
    const ids = Array.from({ length: 22 }, (_, i) => i);
    scheduler.add([request(ids, 1)]);
    step(scheduler);
    const second = request([...ids.slice(0, 18), 500, 501], 1);
    scheduler.add([second]);
    const { rows, copies } = step(scheduler);
    expect([rows[0].firstToken, rows[0].numNewTokens]).toEqual([18, 2]);
    expect(copies).toHaveLength(1);
    expect(second.numCachedTokens).toBe(18);
  });

  test('equal prompts that come together are computed once', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 64 });
    const ids = Array.from({ length: 22 }, (_, i) => i);
    const twins = [request(ids, 4), request(ids, 4), request([...ids.slice(0, 17), 900], 4)];
    scheduler.add(twins);
    const other = request(5, 4);
    scheduler.add([other]);
    expect(step(scheduler).rows.map((row) => row.numNewTokens)).toEqual([22, 5]);
    expect(step(scheduler).rows.map((row) => [row.firstToken, row.numNewTokens])).toEqual([
      [22, 1],
      [5, 1],
      [20, 2],
      [17, 1],
    ]);
    for (let i = 0; i < 6; i++) step(scheduler);
    expect(twins.map((twin) => twin.numOutputTokens)).toEqual([4, 4, 4]);
  });

  test('siblings wait for the prompt, then share it and compute one token each', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 8 });
    const first = request(13, 6);
    const ids = [...first.tokenIds.subarray(0, 13)];
    const rest = [1, 2].map((choice) => request(ids, 6, { choice, sibling: first }));
    scheduler.add([first, ...rest]);
    expect(step(scheduler).rows).toHaveLength(1);
    expect(step(scheduler).rows).toHaveLength(1);
    const { rows, copies } = step(scheduler);
    expect(rows.map((row) => [row.choice, row.firstToken, row.numNewTokens])).toEqual([
      [0, 13, 1],
      [1, 12, 1],
      [2, 12, 1],
    ]);
    // the cut at token 12 is at a block's edge, so nothing needs copying
    expect(copies).toHaveLength(0);
    for (let i = 0; i < 8; i++) step(scheduler);
    expect(rest.map((sibling) => sibling.numOutputTokens)).toEqual([6, 6]);
  });

  test('siblings go on alone when the first one is gone', () => {
    const scheduler = schedulerWith({ maxNumBatchedTokens: 8 });
    const first = request(13, 6);
    const second = request([...first.tokenIds.subarray(0, 13)], 3, { choice: 1, sibling: first });
    scheduler.add([first, second]);
    step(scheduler);
    scheduler.abort(first);
    for (let i = 0; i < 8; i++) step(scheduler);
    expect(second.numOutputTokens).toBe(3);
  });
});

describe('ends', () => {
  test('abort is legal and idempotent while waiting, running, in flight, preempted, finished and before it was added', () => {
    const scheduler = schedulerWith({ numBlocks: 6, maxNumBatchedTokens: 32, watermark: 0, estimatePeak: false });
    const never = request(3);
    scheduler.abort(never);
    const [a, b, c] = [request(11, 8), request(7, 8), request(3, 8)];
    scheduler.add([a, b, c]);
    scheduler.abort(c);
    let batch = scheduler.schedule(0);
    scheduler.abort(a);
    scheduler.abort(a);
    scheduler.commit(batch, new Int32Array(batch.totalLogitRows).fill(7));
    expect(a.numOutputTokens).toBe(0);
    expect(b.numOutputTokens).toBe(1);
    scheduler.checkInvariants();
    const d = request(11, 8);
    scheduler.add([d]);
    for (let i = 0; i < 6 && d.numPreemptions === 0; i++) {
      batch = scheduler.schedule(0);
      scheduler.commit(batch, new Int32Array(batch.totalLogitRows).fill(7));
    }
    scheduler.abort(d);
    scheduler.abort(b);
    expect(scheduler.kv.numReferenced).toBe(0);
    expect(scheduler.hasWork).toBe(false);
    scheduler.checkInvariants();
  });

  test('a full queue refuses the whole generation and keeps what it has', () => {
    const scheduler = schedulerWith({ maxQueue: 3 });
    scheduler.add([request(3), request(3)]);
    expect(codeOf(() => scheduler.add([request(3), request(3)]))).toBe('QUEUE_FULL');
    expect(scheduler.numWaiting).toBe(2);
  });

  test('empty and overlong prompts are refused with both counts', () => {
    const scheduler = schedulerWith({ maxModelLen: 10 });
    expect(codeOf(() => scheduler.add([request([])]))).toBe('PROMPT_EMPTY');
    expect(codeOf(() => scheduler.add([request(10)]))).toBe('PROMPT_TOO_LONG');
    expect(() => scheduler.add([request(10)])).toThrow(/at most 9 tokens.*10 tokens/);
  });

  test('a failed step frees the blocks of its rows and forgets prefixes that it may have spoiled', () => {
    const scheduler = schedulerWith();
    const ids = Array.from({ length: 9 }, (_, i) => i);
    scheduler.add([request(ids, 1)]);
    step(scheduler);
    const [hit, other] = [request([...ids, 55], 2), request(5, 2)];
    scheduler.add([hit, other]);
    const batch = scheduler.schedule(0);
    scheduler.rollback(batch);
    for (const row of [hit, other]) scheduler.finish(row);
    scheduler.checkInvariants();
    expect([scheduler.kv.numReferenced, scheduler.kv.numCached]).toEqual([0, 0]);
    scheduler.add([request(5, 2)]);
    expect(step(scheduler).rows).toHaveLength(1);
  });
});

/** A random life: arrivals, aborts, steps; bounded so that it must drain at the end. */
function randomLife(scheduler: Scheduler, choices: readonly number[], vocabulary: number): number {
  let at = 0;
  const draw = (n: number) => choices[at++ % choices.length] % n;
  const all: Request[] = [];
  const runStep = (abortInFlight: boolean): ScheduledBatch => {
    const batch = scheduler.schedule(0);
    for (const failed of batch.failed) throw failed.error ?? new Error('failed without an error');
    if (batch.numRows === 0) return batch;
    expect(batch.totalTokens).toBeLessThanOrEqual(16);
    if (abortInFlight) scheduler.abort(all[draw(all.length)]);
    const tokens = Int32Array.from({ length: batch.totalLogitRows }, () => draw(vocabulary));
    scheduler.commit(batch, tokens);
    for (let row = 0; row < batch.numRows; row++) {
      const r = batch.requests[row];
      if (r.status === 'running' && r.numOutputTokens >= r.params.maxTokens) scheduler.finish(r);
    }
    return batch;
  };
  let steps = 0;
  for (let i = 0; i < choices.length; i++) {
    const action = draw(8);
    if (action < 2) {
      const prompt = Int32Array.from({ length: 1 + draw(24) }, () => draw(vocabulary));
      const n = draw(6) === 0 ? 3 : 1;
      const group: Request[] = [];
      for (let choice = 0; choice < n; choice++) {
        const sibling = choice === 0 ? {} : { sibling: group[0] };
        group.push(new Request({ id: `${i}`, promptTokenIds: prompt, params: params(1 + draw(12)), choice, arrivalMs: 0, ...sibling }));
      }
      scheduler.add(group);
      all.push(...group);
    } else if (action === 2 && all.length > 0) scheduler.abort(all[draw(all.length)]);
    else {
      runStep(all.length > 0 && draw(5) === 0);
      steps++;
    }
    scheduler.checkInvariants();
  }
  for (let guard = 0; scheduler.hasWork; guard++) {
    expect(guard).toBeLessThan(20_000);
    runStep(false);
    steps++;
  }
  scheduler.checkInvariants();
  expect(scheduler.kv.numReferenced).toBe(0);
  for (const r of all) expect(r.status).toBe('finished');
  return steps;
}

test('random arrivals, aborts and preemptions in tiny pools never leak a block, never stall and always drain', () => {
  let steps = 0;
  const choices = fc.array(fc.nat(10_000), { minLength: 80, maxLength: 250 });
  fc.assert(
    fc.property(choices, (c) => {
      steps += randomLife(schedulerWith({ numBlocks: 11, maxNumSeqs: 6, maxQueue: 10_000, watermark: 0, estimatePeak: false }), c, 2);
    }),
    { numRuns: 60 },
  );
  fc.assert(
    fc.property(choices, (c) => {
      steps += randomLife(schedulerWith({ numBlocks: 12, window: 5, numWindowBlocks: 9, maxNumSeqs: 5, maxQueue: 10_000 }), c, 3);
    }),
    { numRuns: 60 },
  );
  expect(steps).toBeGreaterThan(10_000);
});
