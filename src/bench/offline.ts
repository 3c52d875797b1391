/**
 * Throughput of an engine in this process, without HTTP: prefill and decode at given batch sizes. Each repetition uses fresh random prompts, so
 * that the prefix cache never helps; the prompt is left before its end token is known, so `ignoreEos` keeps the length fixed.
 */
import type { Clock } from '../base/clock.ts';
import { realClock } from '../base/clock.ts';
import type { Engine } from '../engine/engine.ts';
import type { ProfileReading } from './profile.ts';
import { randomPrompts, seededRandom } from './random-prompts.ts';
import { percentile, type Spread, spread } from './statistics.ts';

export interface OfflineOptions {
  /** Rows that prefill at once, one measurement each. */
  readonly prefillBatchSizes: readonly number[];
  /** Rows that decode at once, one measurement each. */
  readonly batchSizes: readonly number[];
  /** Prompt tokens a row in the prefill measurements. */
  readonly inputLen: number;
  /** Prompt tokens a row in the decode measurements. */
  readonly decodeInputLen: number;
  /** Tokens generated a row in the decode measurements. */
  readonly outputLen: number;
  /** Prompt lengths behind which one row decodes; each is measured once, and its long prompt is the warm-up. */
  readonly depths?: readonly number[];
  readonly warmup: number;
  readonly repetitions: number;
  readonly seed: number;
}

/** One line of the table; peers print the same shape (bench/peers). */
export interface OfflineResult {
  readonly phase: 'prefill' | 'decode';
  readonly batchSize: number;
  readonly inputLen: number;
  readonly outputLen: number;
  /** Of all rows together; null when the rows were never all decoding at once (the output is too short). */
  readonly tokensPerSecond: Spread | null;
  /** JavaScript time of a step, milliseconds: schedule + fill + output. */
  readonly hostMsPerStep: { readonly median: number; readonly p99: number } | null;
}

export interface OfflineReport {
  readonly engine: string;
  readonly model: string;
  readonly results: readonly OfflineResult[];
}

export interface OfflineHooks {
  /** Runs done and in all, for a progress bar. */
  onProgress?(done: number, total: number): void;
  readonly clock?: Clock;
  /** What has run since it was last called; decode is read from the first token of the last row on. */
  profile?(): ProfileReading;
  onProfile?(job: Pick<OfflineResult, 'phase' | 'batchSize' | 'inputLen'>, readings: readonly ProfileReading[]): void;
}

/** When each token of each row arrived, and the host time of the steps seen meanwhile. */
interface Run {
  readonly startMs: number;
  readonly arrivalsMs: readonly (readonly number[])[];
  readonly hostMs: readonly number[];
}

/** Runs all measurements. @throws what `Engine.generate` throws, the first row's error */
export async function benchOffline(engine: Engine, options: OfflineOptions, hooks: OfflineHooks = {}): Promise<OfflineReport> {
  const clock = hooks.clock ?? realClock;
  const random = seededRandom(options.seed);
  const { warmup, repetitions } = options;
  const decodeJob = { phase: 'decode' as const, outputLen: options.outputLen };
  const jobs = [
    ...options.prefillBatchSizes.map((batchSize) => ({
      phase: 'prefill' as const,
      batchSize,
      inputLen: options.inputLen,
      outputLen: 1,
      warmup,
      repetitions,
    })),
    ...options.batchSizes.map((batchSize) => ({ ...decodeJob, batchSize, inputLen: options.decodeInputLen, warmup, repetitions })),
    ...(options.depths ?? []).map((inputLen) => ({ ...decodeJob, batchSize: 1, inputLen, warmup: 0, repetitions: 1 })),
  ];
  const total = jobs.reduce((sum, job) => sum + job.warmup + job.repetitions, 0);
  let done = 0;
  const results: OfflineResult[] = [];
  for (const { warmup, repetitions, ...job } of jobs) {
    const rates: number[] = [];
    const hostMs: number[] = [];
    const readings: ProfileReading[] = [];
    for (let i = 0; i < warmup + repetitions; i++) {
      const prompts = randomPrompts(job.batchSize, job.inputLen, engine.model.vocabSize, random);
      hooks.profile?.();
      const run = await runOnce(engine, prompts, job.outputLen, clock, () => job.phase === 'decode' && hooks.profile?.());
      const reading = hooks.profile?.();
      hooks.onProgress?.(++done, total);
      if (i < warmup) continue;
      const rate = job.phase === 'prefill' ? prefillRate(run, job.inputLen) : decodeRate(run.arrivalsMs);
      if (rate !== null) rates.push(rate);
      hostMs.push(...run.hostMs);
      if (reading !== undefined) readings.push(reading);
    }
    if (readings.length > 0) hooks.onProfile?.(job, readings);
    const hostMsPerStep = hostMs.length === 0 ? null : { median: percentile(hostMs, 50), p99: percentile(hostMs, 99) };
    results.push({ ...job, tokensPerSecond: spread(rates), hostMsPerStep });
  }
  const { backend, isa } = engine.config.values as { backend?: unknown; isa?: unknown };
  const name = ['millrace', backend, isa].filter((part) => typeof part === 'string' && part !== 'auto').join(' ');
  return { engine: name, model: engine.model.path, results };
}

/** Starts one request a prompt at the same time and notes each token's arrival. */
async function runOnce(engine: Engine, prompts: readonly Int32Array[], outputLen: number, clock: Clock, onAllDecoding: () => unknown): Promise<Run> {
  let numDecoding = 0;
  const startMs = clock.nowMs();
  const hostMs: number[] = [];
  let lastStep = engine.stats().numSteps;
  const streams = prompts.map((promptTokenIds) => engine.generate({ promptTokenIds }, { maxTokens: outputLen, temperature: 0, ignoreEos: true }));
  const readRow = async (stream: (typeof streams)[number]): Promise<number[]> => {
    const arrivals: number[] = [];
    for await (const delta of stream) {
      const now = clock.nowMs();
      if (arrivals.length === 0 && ++numDecoding === prompts.length) onAllDecoding();
      for (let i = 0; i < delta.tokenIds.length; i++) arrivals.push(now);
      const stats = engine.stats();
      if (stats.numSteps !== lastStep) {
        lastStep = stats.numSteps;
        hostMs.push(stats.lastStepHostMs);
      }
    }
    return arrivals;
  };
  try {
    return { startMs, arrivalsMs: await Promise.all(streams.map(readRow)), hostMs };
  } finally {
    for (const stream of streams) stream.abort();
  }
}

/** Prompt tokens a second until the last row has its first token. */
function prefillRate({ startMs, arrivalsMs }: Run, inputLen: number): number | null {
  const lastFirst = Math.max(...arrivalsMs.map((row) => row[0] ?? Number.NaN));
  const rate = (1000 * inputLen * arrivalsMs.length) / (lastFirst - startMs);
  return Number.isFinite(rate) ? rate : null;
}

/**
 * Tokens a second of all rows together in the window in which every row decodes: from the last row's first token to the first row's last
 * one. Null when there is no such window.
 */
export function decodeRate(arrivalsMs: readonly (readonly number[])[]): number | null {
  const from = Math.max(...arrivalsMs.map((row) => row[0] ?? Number.NaN));
  const to = Math.min(...arrivalsMs.map((row) => row.at(-1) ?? Number.NaN));
  if (!(to > from)) return null;
  let tokens = 0;
  for (const row of arrivalsMs) for (const at of row) if (at > from && at <= to) tokens++;
  return (1000 * tokens) / (to - from);
}
