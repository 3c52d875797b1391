/** Counters and gauges of one engine. */
import type { Clock } from '../base/clock.ts';
import type { TierStack } from '../kv/tiers/tier-stack.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { EngineStats, SizeCounts } from './engine.ts';

const stepTokenBounds = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/** Counts without allocation. */
export class StepTokenCounts implements SizeCounts {
  readonly bounds: readonly number[] = stepTokenBounds;
  readonly counts = new Float64Array(stepTokenBounds.length + 1);
  sum = 0;

  add(numTokens: number): void {
    let bucket = 0;
    while (bucket < stepTokenBounds.length && numTokens > stepTokenBounds[bucket]) bucket++;
    this.counts[bucket]++;
    this.sum += numTokens;
  }
}

/** Written by the loop and the output stage; read through `stats()`. */
export class EngineCounters {
  promptTokens = 0;
  generationTokens = 0;
  jumpForwardTokens = 0;
  numSteps = 0;
  readonly stepTokens = new StepTokenCounts();
  numFailedSteps = 0;
  /** JavaScript time of the last step: schedule + fill + output. */
  lastStepHostMs = 0;
  totalHostMs = 0;
  /** Time inside the backend, all steps together. */
  totalForwardMs = 0;
  /** Part of it. */
  totalSampleMs = 0;
  /** When a step last finished or the engine was last idle. */
  lastProgressMs = 0;
  /** The engine is closed, or its loop has ended by a fault of ours: nothing will ever progress. */
  isStopped = false;
}

export function readStats(counters: EngineCounters, scheduler: Scheduler, clock: Clock, tiers: TierStack | null): EngineStats {
  const now = clock.nowMs();
  const { kv, stats } = scheduler;
  const oldest = scheduler.oldestWaiting;
  return {
    numRunning: scheduler.numRunning,
    numWaiting: scheduler.numWaiting,
    kvBlocksTotal: kv.numBlocks,
    kvBlocksReferenced: kv.numReferenced,
    kvBlocksCached: kv.numCached,
    promptTokens: counters.promptTokens,
    generationTokens: counters.generationTokens,
    prefixCacheQueriedTokens: stats.prefixQueriedTokens,
    prefixCacheHitTokens: stats.prefixHitTokens,
    copiedTokens: kv.numCopiedTokens,
    kvBlocksEvicted: kv.numEvicted,
    tierQueriedTokens: stats.tierQueriedTokens,
    tierHitTokens: stats.tierHitTokens,
    tiers: tiers?.stats() ?? [],
    numPreemptions: stats.numPreemptions,
    numSwaps: stats.numSwaps,
    jumpForwardTokens: counters.jumpForwardTokens,
    numSteps: counters.numSteps,
    stepTokens: counters.stepTokens,
    lastStepHostMs: counters.lastStepHostMs,
    pacing: scheduler.pacing?.report ?? null,
    sinceProgressMs: counters.isStopped ? Infinity : scheduler.hasWork ? now - counters.lastProgressMs : 0,
    oldestWaitingMs: oldest === null ? 0 : now - oldest.arrivalMs,
  };
}
