/** Keeps steps going while there is work: schedule, fill, execute, commit, hand out. Between steps the event loop gets its turn. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Backend, Cache, Program, Step, StepResult } from '../backends/backend.ts';
import type { Clock } from '../base/clock.ts';
import { MillraceError, toMillraceError } from '../base/errors.ts';
import type { Request } from '../scheduler/request.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import { FilledForwardBatch, type ForwardBatchLimits } from './forward-batch.ts';
import type { OutputStage } from './output.ts';
import { FilledSamplingBatch, type RequestSampling } from './sampling-columns.ts';
import type { EngineCounters } from './stats.ts';

/** Sees the raw logits of each step, `[totalLogitRows, vocabSize]`, before it is committed. For tests and measurements. */
export type LogitsListener = (batch: ScheduledBatch, logits: Float32Array) => void;

export interface LoopParts {
  readonly scheduler: Scheduler;
  readonly output: OutputStage;
  readonly counters: EngineCounters;
  readonly backend: Backend;
  readonly program: Program;
  readonly cache: Cache;
  readonly limits: ForwardBatchLimits;
  readonly clock: Clock;
  readonly captureLogits?: LogitsListener | undefined;
}

/**
 * One step is in flight at a time. For two, this class keeps two forward batches, schedules before it awaits, and lets token ids stand for
 * samples of the step before (S2); the scheduler already counts steps in flight.
 */
export class EngineLoop {
  readonly #parts: LoopParts;
  readonly #forward: FilledForwardBatch;
  readonly #sampling: FilledSamplingBatch;
  readonly #samplingOf: (request: Request) => RequestSampling;
  readonly #readOutputs: readonly string[];
  #wake: (() => void) | null = null;
  /** Something came since the last step was scheduled: a wake-up between a step that found nothing and the sleep must not be lost. */
  #hasNews = false;
  #isStopping = false;
  #done: Promise<void> | null = null;

  constructor(parts: LoopParts) {
    this.#parts = parts;
    this.#forward = new FilledForwardBatch(parts.scheduler.kv, parts.limits);
    this.#sampling = new FilledSamplingBatch(parts.limits.maxLogitRows);
    this.#readOutputs = parts.captureLogits === undefined ? [] : ['logits'];
    this.#samplingOf = (request) => {
      const choice = parts.output.choiceOf(request);
      if (choice === undefined) throw new MillraceError('INTERNAL', `request ${request.id} runs without an owner`);
      return choice.sampling;
    };
  }

  /** Starts the loop, or tells a sleeping one that there is work. */
  wake(): void {
    if (this.#isStopping) return;
    this.#hasNews = true;
    if (this.#done === null) {
      this.#parts.counters.lastProgressMs = this.#parts.clock.nowMs();
      this.#done = this.#run();
      return;
    }
    if (this.#wake === null) return;
    this.#parts.counters.lastProgressMs = this.#parts.clock.nowMs();
    this.#wake();
    this.#wake = null;
  }

  /** Ends after the step in flight. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#hasNews = true;
    this.#wake?.();
    await this.#done;
  }

  async #run(): Promise<void> {
    try {
      // a turn before each step, the first included: requests that come together then start together
      for (await nextTurn(); !this.#isStopping; await nextTurn()) {
        this.#hasNews = false;
        if ((await this.#step()) || this.#hasNews) continue;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    } catch (thrown) {
      // an invariant of ours is broken: end everyone with the reason, and let health tell
      this.#isStopping = true;
      this.#parts.counters.isStopped = true;
      this.#parts.output.failAll(toMillraceError(thrown), this.#parts.clock.nowMs());
    }
  }

  /** @returns false when there is nothing to do */
  async #step(): Promise<boolean> {
    const { scheduler, output, counters, clock } = this.#parts;
    const startMs = clock.nowMs();
    const batch = scheduler.schedule(startMs);
    for (const request of batch.failed) {
      if (request.error !== null) output.failRequest(request, request.error, startMs);
    }
    if (batch.numRows === 0) return batch.failed.length > 0;
    const step = this.#fill(batch);
    const filledMs = clock.nowMs();
    const result = await this.#execute(batch, step);
    const doneMs = clock.nowMs();
    counters.lastProgressMs = doneMs;
    if (result === null) return true;
    if (batch.totalLogitRows > 0) this.#parts.captureLogits?.(batch, result.outputs.logits);
    output.failCorrupted(batch, result, doneMs);
    output.deliver(batch, scheduler.commit(batch, result.tokenIds), result, doneMs);
    counters.numSteps++;
    counters.stepTokens.add(batch.totalTokens);
    counters.totalForwardMs += result.forwardMs + result.sampleMs;
    counters.lastStepHostMs = filledMs - startMs + (clock.nowMs() - doneMs);
    counters.totalHostMs += counters.lastStepHostMs;
    return true;
  }

  #fill(batch: ScheduledBatch): Step {
    this.#forward.fill(batch);
    this.#sampling.fill(batch, this.#samplingOf);
    const { program, cache } = this.#parts;
    const wantsTokens = batch.totalLogitRows > 0;
    return {
      entries: [{ program, cache, batch: this.#forward }],
      sampling: wantsTokens ? this.#sampling : null,
      ...(wantsTokens && this.#readOutputs.length > 0 ? { readOutputs: this.#readOutputs } : {}),
    };
  }

  /** A step that fails takes its rows with it and nothing else. */
  async #execute(batch: ScheduledBatch, step: Step): Promise<StepResult | null> {
    const { scheduler, output, counters, clock, backend } = this.#parts;
    try {
      return await backend.execute(step);
    } catch (thrown) {
      const cause = toMillraceError(thrown, 'BACKEND_STEP_FAILED');
      const rows = batch.requests.slice(0, batch.numRows);
      scheduler.rollback(batch);
      for (const request of rows) output.failRequest(request, cause, clock.nowMs());
      counters.numFailedSteps++;
      return null;
    }
  }
}
