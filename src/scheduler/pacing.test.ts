import { describe, expect, test } from 'vitest';
import { numbers, runTrace, type TracedRequest } from '../../test/fixtures/schedule-trace.ts';
import { StepPacing } from './pacing.ts';
import type { ScheduledBatch } from './scheduled-batch.ts';
import { LOAD_WIDTH, StepTimeModel, stepLoad } from './step-time.ts';

/** What a step of the device in these tests takes: weights are read once, prompt tokens compute, rows read their keys. */
function deviceMs({ numRows, firstToken, numNewTokens, requests }: ScheduledBatch): number {
  let ms = 8;
  for (let row = 0; row < numRows; row++) {
    const isDecode = firstToken[row] >= requests[row].numPromptTokens;
    const keys = numNewTokens[row] * (firstToken[row] + numNewTokens[row] / 2);
    ms += isDecode ? 0.4 + keys * 0.0002 : numNewTokens[row] * 0.1 + keys * 0.00001;
  }
  return ms;
}

/** Short and long prompts, short and long answers; `everyMs` 0: all there from the start. */
function mixedLoad(count: number, everyMs: number, seed = 7): TracedRequest[] {
  const draw = numbers(seed);
  let arrivalMs = 0;
  return Array.from({ length: count }, () => {
    arrivalMs += -Math.log(1 - draw()) * everyMs;
    const prompt = draw() < 0.3 ? 1000 + Math.floor(1500 * draw()) : 20 + Math.floor(300 * draw());
    return { arrivalMs, prompt, outputTokens: 20 + Math.floor(100 * draw()) };
  });
}

interface Outcome {
  p99: number;
  tokensPerSecond: number;
  numLimited: number;
}

function serve(load: readonly TracedRequest[], targetItlMs: number | null, stepMs: (batch: ScheduledBatch, nowMs: number) => number): Outcome {
  let nowMs = 0;
  const { traced, endMs, scheduler } = runTrace(load, {
    numBlocks: 8192,
    maxNumSeqs: 24,
    maxNumBatchedTokens: 1024,
    stepMs: (batch) => stepMs(batch, nowMs),
    afterStep: (_, now) => {
      nowMs = now;
    },
    ...(targetItlMs === null ? {} : { targetItlMs }),
  });
  const gaps = traced.flatMap(({ gapsMs }) => gapsMs).sort((a, b) => a - b);
  expect(traced.every(({ request, given }) => request.numOutputTokens === given.outputTokens)).toBe(true);
  return {
    p99: gaps[Math.floor(0.99 * gaps.length)],
    tokensPerSecond: (1000 * traced.reduce((sum, { request }) => sum + request.numTokens, 0)) / endMs,
    numLimited: scheduler.pacing?.report.numLimitedSteps ?? 0,
  };
}

describe('with a target between tokens', () => {
  const noise = (seed: number, spread: number) => {
    const draw = numbers(seed);
    return (batch: ScheduledBatch) => deviceMs(batch) * (1 + spread * (2 * draw() - 1)) * (draw() < 0.004 ? 3 : 1);
  };
  const slower = (batch: ScheduledBatch, nowMs: number) => deviceMs(batch) * (nowMs > 6000 ? 1.6 : 1);
  const drifting = (batch: ScheduledBatch, nowMs: number) => deviceMs(batch) * (1 + Math.min(0.6, nowMs / 20_000));
  test.each([
    ['requests that arrive over time', 45, mixedLoad(150, 120), () => deviceMs],
    ['requests that are all there', 45, mixedLoad(150, 0), () => deviceMs],
    ['steps that vary by a fifth and stall at times', 45, mixedLoad(150, 60), () => noise(3, 0.2)],
    ['a device that becomes 1.6 times slower at once', 60, mixedLoad(150, 60), () => slower],
    ['a device that drifts to 1.6 times slower', 60, mixedLoad(150, 60), () => drifting],
  ])('99 of 100 gaps stay within 1.3 of it at nine tenths of the throughput or more: %s, %i ms', (_, targetMs, load, device) => {
    const free = serve(load, null, device());
    const paced = serve(load, targetMs, device());
    expect(free.p99).toBeGreaterThan(1.8 * targetMs);
    expect(paced.p99).toBeLessThanOrEqual(1.3 * targetMs);
    expect(paced.tokensPerSecond).toBeGreaterThanOrEqual(0.9 * free.tokensPerSecond);
    expect(paced.numLimited).toBeGreaterThan(20);
  });

  test('prompts go on when the rows that decode take longer than the target alone', () => {
    const paced = serve(mixedLoad(60, 0), 5, deviceMs);
    expect(paced.tokensPerSecond).toBeGreaterThan(0);
    expect(paced.numLimited).toBeGreaterThan(20);
  });

  test('steps without decode rows take what fits them', () => {
    const sizes: number[] = [];
    const stepMs = (batch: ScheduledBatch) => {
      sizes.push(batch.totalTokens);
      return deviceMs(batch);
    };
    runTrace([{ arrivalMs: 0, prompt: 3000, outputTokens: 2 }], { numBlocks: 8192, maxNumBatchedTokens: 1024, targetItlMs: 1, stepMs });
    expect(sizes).toEqual([1024, 1024, 952, 1]);
  });

  test('before anything has been measured, a prompt beside rows that decode gets a few tokens a step', () => {
    const pacing = new StepPacing(50, 1);
    expect(pacing.report).toMatchObject({ targetItlMs: 50, aimMs: 50, expectedStepMs: 0, promptTokenBudget: null, numLimitedSteps: 0 });
    expect(pacing.model.isMeasured).toBe(false);
  });
});

describe('the model of step times', () => {
  const truth = Float64Array.of(0.1, 0.4, 8, 0.2, 0.01);
  const draw = numbers(11);
  const anyLoad = (withPrompt: boolean) =>
    Float64Array.of(withPrompt ? Math.floor(400 * draw()) : 0, Math.floor(24 * draw()), 1, 30 * draw(), withPrompt ? 200 * draw() : 0);
  const timeOf = (load: Float64Array) => load.reduce((sum, count, i) => sum + count * truth[i], 0);

  test('finds what each part of a step takes', () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 400; i++) {
      const load = anyLoad(i % 2 === 0);
      model.note(load, timeOf(load));
    }
    for (let i = 0; i < LOAD_WIDTH; i++) expect(model.weight(i) / truth[i]).toBeCloseTo(1, 1);
  });

  test('keeps what a prompt token takes through a long stretch of decode, and follows a device that slows down meanwhile', () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 200; i++) {
      const load = anyLoad(i % 2 === 0);
      model.note(load, timeOf(load));
    }
    for (let i = 0; i < 30; i++) {
      const load = anyLoad(false);
      model.note(load, 2 * timeOf(load));
    }
    const load = anyLoad(true);
    expect(model.predict(load) / timeOf(load)).toBeGreaterThan(1.3);
    expect(model.predict(load) / timeOf(load)).toBeLessThan(2.2);
  });

  test('a stall, a clock that was set and a time that is no number change little or nothing', () => {
    const model = new StepTimeModel();
    for (let i = 0; i < 100; i++) {
      const load = anyLoad(i % 2 === 0);
      model.note(load, timeOf(load));
    }
    const load = anyLoad(true);
    const before = model.predict(load);
    for (const ms of [0, -5000, Number.NaN, Infinity]) model.note(load, ms);
    expect(model.predict(load)).toBe(before);
    model.note(load, 60_000);
    expect(model.predict(load) / before).toBeLessThan(1.5);
    expect(model.weight(stepLoad.promptTokens)).toBeGreaterThan(0);
  });
});
