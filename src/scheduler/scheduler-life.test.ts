import { expect, test } from 'vitest';
import { emptyReport, type LifeReport, liveRandomly } from '../../test/fixtures/scheduler-life.ts';

test('random lives with aborts, forks, beam searches, drafts, failing steps, deadlines, two steps in flight, changing policies and failing tiers break no invariant and end', () => {
  const sum: LifeReport = { ...emptyReport };
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
  expect(Math.min(sum.loads, sum.brokenLoads)).toBeGreaterThan(10);
  expect(sum.stores).toBeGreaterThan(500);
  expect(Math.min(sum.rounds, sum.forks)).toBeGreaterThan(500);
  expect(sum.preemptedBeams).toBeGreaterThan(20);
});
