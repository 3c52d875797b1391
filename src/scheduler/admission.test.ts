import { describe, expect, test } from 'vitest';
import { numbers, runTrace, type TracedRequest, type TraceOptions } from '../../test/fixtures/schedule-trace.ts';
import { KvCache } from '../kv/kv-cache.ts';
import { resolveSamplingParams } from '../sampling/params.ts';
import { PeakEstimate } from './admission.ts';
import { OutputLengths } from './output-lengths.ts';
import { Request } from './request.ts';
import type { ScheduledBatch } from './scheduled-batch.ts';

describe('predicted output lengths', () => {
  test('without history a first guess, never more than may come', () => {
    const lengths = new OutputLengths();
    expect(lengths.predictRemaining(0, 10_000)).toBe(128);
    expect(lengths.predictRemaining(0, 30)).toBe(30);
    expect(lengths.predictRemaining(29, 30)).toBe(1);
    expect(lengths.predictRemaining(400, 10_000)).toBe(100);
  });

  test('with history the median of those outputs that became longer', () => {
    const lengths = new OutputLengths();
    for (let i = 1; i <= 100; i++) lengths.record(i, 10_000);
    expect(lengths.predictRemaining(0, 10_000)).toBe(50);
    expect(lengths.predictRemaining(60, 10_000)).toBe(80 - 60);
    expect(lengths.predictRemaining(100, 10_000)).toBe(25);
    // outputs of requests that allow far less tell nothing of those
    expect(lengths.predictRemaining(0, 500)).toBe(128);
  });

  test('old outputs are forgotten', () => {
    const lengths = new OutputLengths();
    for (let i = 0; i < 600; i++) lengths.record(1000, 10_000);
    for (let i = 0; i < 512; i++) lengths.record(10, 10_000);
    expect(lengths.predictRemaining(0, 10_000)).toBe(10);
  });
});

describe('the peak estimate', () => {
  const groups = [{ name: 'full', kind: 'full' as const, numBlocks: 100, numLayers: 1, numKvHeads: 1, headDim: 8 }];
  const kv = new KvCache({ groups, blockSize: 4, enablePrefixCaching: false });

  function running(numPrompt: number, maxTokens: number): Request {
    const params = resolveSamplingParams({ maxTokens, seed: 1 }, { maxTokens: 1000, vocabSize: 10, drawSeed: () => 1 });
    const request = new Request({ id: '', promptTokenIds: new Int32Array(numPrompt), params, arrivalMs: 0 });
    request.sequence = kv.open();
    expect(kv.allocate(request.sequence, 0, numPrompt + 1)).toBe(true);
    return request;
  }

  test('is the fullest moment when the short ones give back before the long one has grown', () => {
    const estimate = new PeakEstimate(kv, new OutputLengths(), 8);
    // 3 blocks each now; remaining 4, 8 and 40 tokens are 1, 2 and 10 blocks
    const [short, middle, long] = [running(11, 4), running(11, 8), running(11, 40)];
    // when short ends: 9 + 3 x 1; when middle ends: 9 - 3 + 2 x 2; when long ends: 9 - 6 + 10
    expect(estimate.peakBlocks([long, short], middle)).toBe(13);
    // without the long one the first end is the peak: 6 + 2 x 1; second 6 - 3 + 2
    expect(estimate.peakBlocks([short], middle)).toBe(8 + 3);
    for (const request of [short, middle, long]) if (request.sequence !== null) kv.free(request.sequence, request.tokenIds, 0);
  });
});

describe('admission by the peak estimate against naive admission', () => {
  const draw = numbers(6);
  const arrivals = Array.from({ length: 300 }, (_, i): TracedRequest => {
    const prompt = 20 + Math.floor(draw() * 60);
    return { arrivalMs: i * 10, prompt, outputTokens: 40 + Math.floor(draw() * 120), maxTokens: 2000 };
  });

  function run(msPerToken: number, options: TraceOptions) {
    let numTokens = 0;
    const stepMs = ({ totalTokens }: ScheduledBatch) => {
      numTokens += totalTokens;
      return 5 + msPerToken * totalTokens;
    };
    const { scheduler, endMs } = runTrace(arrivals, { numBlocks: 150, maxNumSeqs: 64, maxNumBatchedTokens: 256, stepMs, ...options });
    return { ...scheduler.stats, numTokens, endMs };
  }

  const naive = { estimatePeak: false, watermark: 0 };
  const watermarked = { estimatePeak: false, watermark: 0.05 };

  test('preempts a tenth as often and computes a fifth fewer tokens; a watermark alone gets half of that', () => {
    const [none, watermark, peak] = [run(0.3, naive), run(0.3, watermarked), run(0.3, {})];
    // as this was written: 274, 91 and 10 preemptions; 57,346, 49,176 and 44,665 tokens
    expect(none.numPreemptions).toBeGreaterThan(200);
    expect(watermark.numPreemptions).toBeLessThan(none.numPreemptions / 2);
    expect(peak.numPreemptions).toBeLessThan(none.numPreemptions / 10);
    expect(peak.numTokens).toBeLessThan(0.8 * none.numTokens);
  });

  test('gets through the load sooner where tokens cost most of a step, and as soon where they cost little', () => {
    // as this was written: 22.2 s against 24.5 s (watermark 22.2 s), and 13.2 s against 13.1 s
    expect(run(0.3, {}).endMs).toBeLessThan(0.95 * run(0.3, naive).endMs);
    expect(run(0.1, {}).endMs).toBeLessThan(1.03 * run(0.1, naive).endMs);
  });

  test('preemption by swap computes a sixth fewer tokens where moving is cheaper, and is not done where it is dearer', () => {
    const recompute = run(0.3, naive);
    const swap = run(0.3, { ...naive, tierMsPerToken: 0.02 });
    const dear = run(0.3, { ...naive, tierMsPerToken: 5 });
    // as this was written: 47,391 tokens instead of 57,346 and 22.5 s instead of 24.5 s
    expect(swap.numSwaps).toBe(swap.numPreemptions);
    expect(swap.tierHitTokens).toBeGreaterThan(5000);
    expect(swap.numTokens).toBeLessThan(0.85 * recompute.numTokens);
    expect(swap.endMs).toBeLessThan(0.95 * recompute.endMs);
    expect(dear.numSwaps).toBeLessThan(0.1 * dear.numPreemptions);
    expect(dear.endMs).toBeLessThan(1.1 * recompute.endMs);
  });
});
