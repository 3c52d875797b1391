import { expect, test } from 'vitest';
import { type LifeReport, liveRandomly } from '../../test/fixtures/scheduler-life.ts';

test('random lives with aborts, forks, drafts, failing steps, deadlines, two steps in flight and changing policies break no invariant and end', () => {
  const sum: LifeReport = { steps: 0, requests: 0, preemptions: 0, expired: 0, failedSteps: 0, overlapped: 0 };
  for (let seed = 1; sum.steps < 10_000; seed++) {
    let report: LifeReport;
    try {
      report = liveRandomly(seed);
    } catch (thrown) {
      throw new Error(`the life of seed ${seed} broke: ${(thrown as Error).message}`, { cause: thrown });
    }
    for (const key of Object.keys(sum) as (keyof LifeReport)[]) sum[key] += report[key];
  }
  // all of it has happened, and often
  expect(Math.min(sum.preemptions, sum.expired, sum.failedSteps)).toBeGreaterThan(50);
  expect(Math.min(sum.overlapped, sum.requests)).toBeGreaterThan(1000);
});
