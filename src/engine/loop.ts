/** Keeps steps going while there is work: schedule, fill, execute, commit, hand out. Between steps the event loop gets its turn. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Backend, Cache, HostStage, Program, Step, StepResult } from '../backends/backend.ts';
import type { Clock } from '../base/clock.ts';
import { MillraceError, toMillraceError } from '../base/errors.ts';
import type { Request } from '../scheduler/request.ts';
import { PROMPT_LOGIT_ROWS, type ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { BlockMover } from './block-mover.ts';
import { FilledForwardBatch, type ForwardBatchLimits } from './forward-batch.ts';
import { LogitsStage } from './logits-stage.ts';
import { MaskRows, MaskStage } from './mask-stage.ts';
import type { OutputStage } from './output.ts';
import type { RequestSampling } from './request-sampling.ts';
import type { RetentionPrograms } from './retention.ts';
import { FilledSamplingBatch } from './sampling-columns.ts';
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
  /** Runs what requests that do not keep all of their keys need before a step. */
  readonly retention: RetentionPrograms;
  /** Null without tiers. */
  readonly mover?: BlockMover | null;
  /** Steps that the backend may have been given and whose results are not worked up: 1 or 2. */
  readonly maxInFlight: number;
  readonly captureLogits?: LogitsListener | undefined;
}

/** A step that the backend has been given. Never rejects. */
interface Flight {
  readonly batch: ScheduledBatch;
  readonly host: MaskStage | LogitsStage | null;
  readonly outcome: Promise<StepResult | MillraceError>;
  /** JavaScript time before it, milliseconds. */
  readonly fillMs: number;
}

/** The arrays of one step in flight. */
interface StepBuffers {
  readonly forward: FilledForwardBatch;
  readonly sampling: FilledSamplingBatch;
  readonly masks: MaskRows;
}

/**
 * With one step in flight, a step's results are worked up before the next is scheduled. With two, the next is scheduled and handed to the backend
 * while one runs, token ids standing for samples that are still to come (S2), and results are worked up while the next runs. A request whose next
 * sample depends on the ids before it (`Request.waitsForSample`) then takes part in every other step only. Either way each row computes the same.
 */
export class EngineLoop {
  readonly #parts: LoopParts;
  readonly #buffers: readonly StepBuffers[];
  readonly #samplingOf: (request: Request) => RequestSampling;
  readonly #readOutputs: readonly string[];
  readonly #vocabSize: number;
  /** Oldest first. */
  readonly #flights: Flight[] = [];
  #wake: (() => void) | null = null;
  /** Something came since the last step was scheduled: a wake-up between a step that found nothing and the sleep must not be lost. */
  #hasNews = false;
  #isStopping = false;
  #done: Promise<void> | null = null;

  constructor(parts: LoopParts) {
    this.#parts = parts;
    this.#buffers = Array.from({ length: parts.maxInFlight }, () => ({
      forward: new FilledForwardBatch(parts.scheduler.kv, parts.limits),
      sampling: new FilledSamplingBatch(parts.limits.maxLogitRows + PROMPT_LOGIT_ROWS),
      masks: new MaskRows(),
    }));
    this.#readOutputs = parts.captureLogits === undefined ? [] : ['logits'];
    this.#vocabSize = parts.program.plan.values[parts.program.plan.outputs.logits].width;
    this.#samplingOf = (request) => {
      const sampling = parts.output.samplingOf(request);
      if (sampling === undefined) throw new MillraceError('INTERNAL', `request ${request.id} runs without an owner`);
      return sampling;
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
        const isBusy = this.#launch();
        if (this.#flights.length === this.#buffers.length || (!isBusy && this.#flights.length > 0)) await this.#land();
        else if (!isBusy && !this.#hasNews) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
      while (this.#flights.length > 0) await this.#land();
    } catch (thrown) {
      // an invariant of ours is broken: end everyone with the reason, and let health tell
      this.#isStopping = true;
      this.#parts.counters.isStopped = true;
      this.#parts.output.failAll(toMillraceError(thrown), this.#parts.clock.nowMs());
      await Promise.all(this.#flights.map(({ outcome }) => outcome));
    }
  }

  /** Schedules a step and hands it to the backend. @returns false when there was nothing to do */
  #launch(): boolean {
    const { scheduler, output, clock, backend, mover } = this.#parts;
    const startMs = clock.nowMs();
    const batch = scheduler.schedule(startMs);
    mover?.store();
    for (const request of batch.failed) {
      if (request.error !== null) output.failRequest(request, request.error, startMs);
    }
    if (batch.numRows === 0) {
      mover?.load(batch.loads);
      return batch.failed.length > 0;
    }
    const buffers = this.#buffersOf(batch);
    const host = this.#hostStage(batch, buffers.masks);
    const step = this.#fill(batch, buffers, host);
    const outcome = backend.execute(step).catch((thrown: unknown) => toMillraceError(thrown, 'BACKEND_STEP_FAILED'));
    void host?.begin();
    mover?.load(batch.loads);
    this.#flights.push({ batch, host, outcome, fillMs: clock.nowMs() - startMs });
    return true;
  }

  /** Waits for the oldest step in flight and works up what it gave. */
  async #land(): Promise<void> {
    const [flight] = this.#flights;
    const outcome = await flight.outcome;
    // the backend begins the next step first, then the results of this one are worked up beside it
    if (this.#flights.length > 1) await nextTurn();
    this.#flights.shift();
    const { scheduler, output, counters, clock } = this.#parts;
    const { batch } = flight;
    const doneMs = clock.nowMs();
    const stepMs = doneMs - counters.lastProgressMs; // from token to token, not only the backend's part
    counters.lastProgressMs = doneMs;
    if (outcome instanceof MillraceError) {
      this.#fail(batch, outcome);
      return;
    }
    if (batch.totalLogitRows > 0) this.#parts.captureLogits?.(batch, outcome.outputs.logits);
    const stage = flight.host instanceof LogitsStage ? flight.host : null;
    for (const [request, error] of stage?.errors ?? []) output.failRequest(request, error, doneMs);
    output.failCorrupted(batch, outcome, doneMs);
    if (batch.totalPromptRows > 0) output.deliverPrompts(batch, outcome, stage?.places ?? null);
    output.deliver(batch, scheduler.commit(batch, outcome.tokenIds), outcome, doneMs);
    scheduler.rates.noteStep(batch.totalTokens, outcome.forwardMs);
    scheduler.pacing?.note(batch, stepMs);
    counters.numSteps++;
    counters.stepTokens.add(batch.totalTokens);
    counters.totalForwardMs += outcome.forwardMs + outcome.sampleMs;
    counters.totalSampleMs += outcome.sampleMs;
    counters.lastStepHostMs = flight.fillMs + (clock.nowMs() - doneMs);
    counters.totalHostMs += counters.lastStepHostMs;
  }

  #buffersOf(batch: ScheduledBatch): StepBuffers {
    return this.#buffers[batch.step % this.#buffers.length];
  }

  #hostStage(batch: ScheduledBatch, rows: MaskRows): MaskStage | LogitsStage | null {
    const { output } = this.#parts;
    const masks = MaskStage.of(batch, (request) => output.rulesOf(request), this.#vocabSize, rows);
    const processorsOf = (request: Request) => output.processorsOf(request);
    return LogitsStage.isWanted(batch, processorsOf) ? new LogitsStage(batch, processorsOf, masks, this.#vocabSize) : masks;
  }

  #fill(batch: ScheduledBatch, { forward, sampling }: StepBuffers, host: HostStage | null): Step {
    forward.fill(batch);
    sampling.fill(batch, this.#samplingOf);
    const { program, cache, retention } = this.#parts;
    const before = retention.entries(batch);
    if (before.length > 0) before[0] = { ...before[0], batch: forward.moveCopies(before[0].batch) };
    const wantsTokens = batch.totalLogitRows + batch.totalPromptRows > 0;
    return {
      entries: [...before, { program, cache, batch: forward }],
      sampling: wantsTokens ? sampling : null,
      ...(host === null ? {} : { host }),
      ...(wantsTokens && this.#readOutputs.length > 0 ? { readOutputs: this.#readOutputs } : {}),
    };
  }

  /** A step that fails takes its rows with it, and what they have in a step after it; nothing else. */
  #fail(batch: ScheduledBatch, cause: MillraceError): void {
    const { scheduler, output, counters, clock } = this.#parts;
    this.#buffersOf(batch).masks.drop(); // a stage that was late may still be writing
    const rows = batch.requests.slice(0, batch.numRows);
    scheduler.rollback(batch);
    for (const request of rows) output.failRequest(request, cause, clock.nowMs());
    counters.numFailedSteps++;
  }
}
