import { describe, expect, test } from 'vitest';
import { mean, numbers, runTrace, type Traced, type TracedRequest, type TraceOptions } from '../../../test/fixtures/schedule-trace.ts';
import { KvCache } from '../../kv/kv-cache.ts';
import { resolveSamplingParams } from '../../sampling/params.ts';
import { Request } from '../request.ts';
import { Scheduler } from '../scheduler.ts';
import { type PolicyName, policies } from './index.ts';
import { AGEING_MS } from './priority.ts';

/** The same arrivals under fcfs and under a policy. */
function compare(policy: PolicyName, arrivals: readonly TracedRequest[], options: TraceOptions = {}) {
  return { fcfs: runTrace(arrivals, options), other: runTrace(arrivals, { ...options, policy }) };
}

const totalMs = ({ request, endMs }: Traced) => endMs - request.arrivalMs;
const firstTokenMs = ({ request, firstTokenMs: at }: Traced) => at - request.arrivalMs;

describe('priority', () => {
  const draw = numbers(1);
  const crowd: TracedRequest[] = Array.from({ length: 120 }, (_, i) => ({
    arrivalMs: i * 20,
    prompt: 20 + Math.floor(draw() * 60),
    outputTokens: 20 + Math.floor(draw() * 20),
    priority: i % 10 === 0 ? -5 : 0,
  }));

  test('urgent requests see their first token in a fraction of the time', () => {
    const { fcfs, other } = compare('priority', crowd);
    const urgent = (traced: Traced[]) => mean(traced.filter(({ given }) => given.priority === -5).map(firstTokenMs));
    expect(urgent(other.traced)).toBeLessThan(urgent(fcfs.traced) / 5);
  });

  test('a request of low priority gets its turn while urgent ones go on coming', () => {
    const low: TracedRequest = { arrivalMs: 100, prompt: 20, outputTokens: 4, priority: 2 };
    const urgent = Array.from({ length: 1500 }, (_, i) => ({ arrivalMs: i * 30, prompt: 40, outputTokens: 8, priority: 0 }));
    const { traced } = runTrace([low, ...urgent], { policy: 'priority', maxNumSeqs: 1 });
    const [lowest] = traced.filter(({ given }) => given.priority === 2);
    expect(firstTokenMs(lowest)).toBeGreaterThan(2 * AGEING_MS - 100);
    expect(firstTokenMs(lowest)).toBeLessThan(4 * AGEING_MS);
  });
});

test('longest-prefix computes fewer tokens when more prefixes are in use than the cache holds', () => {
  const draw = numbers(2);
  const prefixes = Array.from({ length: 12 }, (_, p) => Array.from({ length: 160 }, (_, i) => p * 1000 + i));
  const arrivals = Array.from({ length: 96 }, (_, i): TracedRequest => {
    const prompt = [...prefixes[Math.floor(draw() * 12)], 500_000 + i];
    return { arrivalMs: 0, prompt, outputTokens: 4 };
  });
  // room for about four of the twelve prefixes
  const { fcfs, other } = compare('longest-prefix', arrivals, { numBlocks: 44, maxNumSeqs: 2 });
  const missed = ({ scheduler: { stats } }: ReturnType<typeof runTrace>) => stats.prefixQueriedTokens - stats.prefixHitTokens;
  expect(missed(other)).toBeLessThan(missed(fcfs) / 2);
  expect(other.endMs).toBeLessThan(fcfs.endMs);
});

describe('shortest-first', () => {
  test('halves the mean time to the end when short and long outputs mix, and starves no long one', () => {
    const draw = numbers(3);
    const arrivals = Array.from({ length: 80 }, (_, i): TracedRequest => {
      const outputTokens = i % 4 === 0 ? 200 : 5 + Math.floor(draw() * 10);
      return { arrivalMs: 0, prompt: 30, outputTokens };
    });
    const { fcfs, other } = compare('shortest-first', arrivals, { maxNumSeqs: 4 });
    expect(mean(other.traced.map(totalMs))).toBeLessThan(mean(fcfs.traced.map(totalMs)) / 2);
    expect(other.traced.every(({ endMs }) => endMs < Infinity)).toBe(true);
  });
});

describe('deadline', () => {
  test('more requests are in time', () => {
    const draw = numbers(4);
    const arrivals = Array.from({ length: 120 }, (_, i): TracedRequest => {
      const arrivalMs = i * 28;
      return { arrivalMs, prompt: 40, outputTokens: 12, firstTokenDueMs: arrivalMs + (i % 2 === 0 ? 150 + draw() * 100 : 5000) };
    });
    const { fcfs, other } = compare('deadline', arrivals, { maxNumSeqs: 2 });
    const inTime = (traced: Traced[]) => traced.filter(({ given, firstTokenMs: at }) => at <= (given.firstTokenDueMs ?? 0)).length;
    expect(inTime(fcfs.traced)).toBeLessThan(80);
    expect(inTime(other.traced)).toBeGreaterThan(110);
  });
});

describe('fair', () => {
  const heavy = Array.from({ length: 200 }, (): TracedRequest => ({ arrivalMs: 0, prompt: 60, outputTokens: 20, tenant: 'heavy' }));
  const light = Array.from({ length: 10 }, (_, i): TracedRequest => ({ arrivalMs: 200 + i * 300, prompt: 60, outputTokens: 20, tenant: 'light' }));
  const of = (tenant: string, traced: Traced[]) => traced.filter(({ given }) => given.tenant === tenant);

  test('a tenant with a flood of requests does not delay the one with a few', () => {
    const { fcfs, other } = compare('fair', [...heavy, ...light]);
    const worst = (traced: Traced[]) => Math.max(...of('light', traced).map(firstTokenMs));
    expect(worst(other.traced)).toBeLessThan(worst(fcfs.traced) / 10);
    // and costs the flood little: the work is the same
    expect(other.endMs).toBeLessThan(fcfs.endMs * 1.05);
  });

  test('two tenants that always have work get equal service', () => {
    const small = Array.from({ length: 400 }, (): TracedRequest => ({ arrivalMs: 0, prompt: 20, outputTokens: 5, tenant: 'small' }));
    const { traced } = runTrace([...heavy, ...small], { policy: 'fair' });
    const until = Math.min(Math.max(...of('heavy', traced).map(({ endMs }) => endMs)), Math.max(...of('small', traced).map(({ endMs }) => endMs)));
    const service = (tenant: string) =>
      of(tenant, traced).reduce((sum, { given, endMs }) => sum + (endMs <= until ? (given.prompt as number) + 2 * given.outputTokens : 0), 0);
    expect(service('heavy') / service('small')).toBeGreaterThan(0.9);
    expect(service('heavy') / service('small')).toBeLessThan(1.1);
  });

  test('idleness saves nothing up', () => {
    const late = Array.from({ length: 50 }, (): TracedRequest => ({ arrivalMs: 1500, prompt: 60, outputTokens: 20, tenant: 'late' }));
    const { traced } = runTrace([...heavy, ...late], { policy: 'fair' });
    const [from, to] = [2000, 2500];
    const ended = (tenant: string) => of(tenant, traced).filter(({ endMs }) => endMs > from && endMs <= to).length;
    expect(ended('heavy')).toBeGreaterThan(0.6 * ended('late'));
  });
});

test('every policy finishes everything under random load with preemptions, and can be switched at any step', () => {
  const names = Object.keys(policies) as PolicyName[];
  for (const policy of [...names, 'switching'] as const) {
    const draw = numbers(5);
    const arrivals = Array.from({ length: 150 }, (_, i): TracedRequest => {
      const prompt = Array.from({ length: 1 + Math.floor(draw() * 60) }, (_, at) => (i % 7) * 1000 + (at < 20 ? at : at + i * 100));
      const outputTokens = 1 + Math.floor(draw() * 40);
      return { arrivalMs: draw() * 3000, prompt, outputTokens, maxTokens: 60, priority: i % 3, tenant: `t${i % 4}` };
    });
    let steps = 0;
    const { traced, scheduler } = runTrace(arrivals, {
      policy: policy === 'switching' ? 'fcfs' : policy,
      numBlocks: 40,
      blockSize: 4,
      watermark: 0,
      estimatePeak: false,
      afterStep(running) {
        if (policy === 'switching' && ++steps % 3 === 0) running.use(policies[names[(steps / 3) % names.length]]());
        running.checkInvariants();
      },
    });
    expect(traced.every(({ endMs }) => endMs < Infinity)).toBe(true);
    expect(scheduler.stats.numPreemptions).toBeGreaterThan(0);
    expect(scheduler.kv.numReferenced).toBe(0);
  }
});

test('a switch of policy orders those who wait anew', () => {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks: 64, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  const kv = new KvCache({ groups, blockSize: 4, enablePrefixCaching: true });
  const scheduler = new Scheduler({ kv, maxNumSeqs: 1, maxNumBatchedTokens: 16, maxModelLen: 100, maxQueue: 10 });
  const params = resolveSamplingParams({ maxTokens: 4, seed: 1 }, { maxTokens: 50, vocabSize: 100, drawSeed: () => 1 });
  const made = [0, 0, -1].map((priority, i) => new Request({ id: `${i}`, promptTokenIds: Int32Array.of(i, 1, 2), params, priority, arrivalMs: 0 }));
  for (const request of made) scheduler.add([request]);
  const batch = scheduler.schedule(0);
  scheduler.commit(batch, new Int32Array(1));
  expect(scheduler.report(5).map(({ id, waitsFor }) => [id, waitsFor])).toEqual([
    ['0', null],
    ['1', 'rows'],
    ['2', 'behind'],
  ]);
  scheduler.use(policies.priority());
  expect(scheduler.report(5).map(({ id }) => id)).toEqual(['0', '2', '1']);
});
