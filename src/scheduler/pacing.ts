/**
 * Holds steps short for those that are being written to: a step with decode rows takes only so many prompt tokens that it is expected to last the
 * target at most. Who is let into a step changes; what a row computes does not (idea 5).
 */
import type { Request } from './request.ts';
import type { ScheduledBatch } from './scheduled-batch.ts';
import { LOAD_WIDTH, StepTimeModel, stepLoad } from './step-time.ts';

/** What the pacing goes by. Times in milliseconds. */
export interface PacingReport {
  /** `--target-itl-ms`. */
  readonly targetItlMs: number;
  /** What steps are planned for: the target, less where steps with prompt tokens often last longer than expected. */
  readonly aimMs: number;
  /** Expected time of the last step that was scheduled. */
  readonly expectedStepMs: number;
  /** A step without rows, a decode row and a prompt token, each without the keys that it reads. */
  readonly stepMs: number;
  readonly decodeRowMs: number;
  readonly promptTokenMs: number;
  /** Prompt tokens that a row at the start of its prompt could have had in the last step with decode rows; null before there was one. */
  readonly promptTokenBudget: number | null;
  /** Steps in which a prompt got less than there was room for. */
  readonly numLimitedSteps: number;
}

/** Share of the target that prompts get at least, whatever decode takes: they never starve. */
const LEAST_SHARE = 0.1;
/** Prompt tokens in a step with decode rows before anything has been measured. */
const FIRST_TOKENS = 32;
/** What the 99th percentile of gaps is to be over the target at most: 1.3, less some margin. */
const ALLOWED = 1.25;
/** The aim never falls further below the target than this, however much steps vary. */
const MAX_SPREAD = 1.6;
const SPREAD_GAIN = 0.05;

export class StepPacing {
  readonly targetItlMs: number;
  readonly model = new StepTimeModel();
  /** What the steps in flight hold, by their number. */
  readonly #loads: readonly Float64Array[];
  readonly #planned = new Float64Array(LOAD_WIDTH);
  /** Running estimate of the 99th percentile of actual over expected time, of steps with prompt tokens. */
  #spread = 1.1;
  /** Milliseconds left for prompt tokens in the step being made. */
  #leftMs = Infinity;
  #tokensLeft = Infinity;
  #hasGiven = false;
  #isLimited = false;
  #hasCut = false;
  #expectedMs = 0;
  #budget: number | null = null;
  #numLimitedSteps = 0;

  /** @param maxInFlight steps scheduled and not yet noted at most */
  constructor(targetItlMs: number, maxInFlight: number) {
    this.targetItlMs = targetItlMs;
    this.#loads = Array.from({ length: maxInFlight }, () => new Float64Array(LOAD_WIDTH));
  }

  get report(): PacingReport {
    return {
      targetItlMs: this.targetItlMs,
      aimMs: this.#aimMs,
      expectedStepMs: this.#expectedMs,
      stepMs: this.model.weight(stepLoad.step),
      decodeRowMs: this.model.weight(stepLoad.decodeRows),
      promptTokenMs: this.model.weight(stepLoad.promptTokens),
      promptTokenBudget: this.#budget,
      numLimitedSteps: this.#numLimitedSteps,
    };
  }

  /** A step is about to be made from these rows: what those that decode will take decides what is left for prompts. */
  begin(running: readonly Request[]): void {
    const load = this.#planned.fill(0);
    let waits = false;
    for (const request of running) {
      if (request.isLoading || !isDecoding(request)) continue;
      load[stepLoad.decodeRows]++;
      load[stepLoad.decodeKeys] += request.numTokens / 1000;
      waits ||= request.waitsForSample;
    }
    load[stepLoad.step] = 1;
    this.#hasGiven = false;
    this.#hasCut = false;
    this.#isLimited = load[stepLoad.decodeRows] > 0;
    this.#leftMs = Infinity;
    this.#tokensLeft = Infinity;
    if (!this.#isLimited) return;
    // with two steps in flight, rows that wait for their sample take part in every other step: two steps are one gap
    const aim = waits && this.#loads.length > 1 ? this.#aimMs / 2 : this.#aimMs;
    if (this.model.isMeasured) this.#leftMs = Math.max(aim - this.model.predict(load), LEAST_SHARE * aim);
    else this.#tokensLeft = FIRST_TOKENS;
    this.#budget = Math.min(this.#tokensLeft, Math.floor(this.#tokensWithin(0)));
  }

  /** Whether the step has no room for another prompt. */
  get isFull(): boolean {
    return this.#hasGiven && (this.#tokensLeft <= 0 || this.#tokensWithin(0) < 1);
  }

  /**
   * Of the tokens that a row wants, those that it may have; they are counted as given. Rows that decode get all. The first prompt of a step gets
   * one at least.
   */
  take(request: Request, wanted: number): number {
    if (!this.#isLimited || wanted <= 0 || isDecoding(request)) return wanted;
    const first = request.numScheduledTokens;
    let granted = Math.min(wanted, this.#tokensLeft, Math.floor(this.#tokensWithin(first)));
    this.#hasCut ||= granted < wanted;
    if (granted < 1) {
      // one that starts has its place in the step
      if (this.#hasGiven && request.status === 'running') return 0;
      granted = 1;
    }
    this.#hasGiven = true;
    this.#tokensLeft -= granted;
    const { model } = this;
    this.#leftMs -= granted * model.weight(stepLoad.promptTokens) + (keysRead(first, granted) / 1000) * model.weight(stepLoad.promptKeys);
    return granted;
  }

  /** The step has been made. */
  launch(batch: ScheduledBatch): void {
    const load = this.#loads[batch.step % this.#loads.length].fill(0);
    load[stepLoad.step] = 1;
    for (let row = 0; row < batch.numRows; row++) {
      const first = batch.firstToken[row];
      const count = batch.numNewTokens[row];
      const keys = keysRead(first, count) / 1000;
      if (first >= batch.requests[row].numPromptTokens && count <= batch.numLogitRows[row]) {
        load[stepLoad.decodeRows]++;
        load[stepLoad.decodeKeys] += keys;
      } else {
        load[stepLoad.promptTokens] += count;
        load[stepLoad.promptKeys] += keys;
      }
    }
    if (this.#hasCut) this.#numLimitedSteps++;
    this.#expectedMs = this.model.predict(load);
  }

  /** The step took so long, from the end of the one before it (or from its own beginning, if nothing ran) to having its results. */
  note(batch: ScheduledBatch, ms: number): void {
    const load = this.#loads[batch.step % this.#loads.length];
    const expected = this.model.predict(load);
    const isMixed = load[stepLoad.promptTokens] > 0 && load[stepLoad.decodeRows] > 0;
    if (isMixed && this.model.isMeasured && expected > 0 && ms > 0) {
      const isOver = ms > this.#spread * expected;
      this.#spread = Math.min(MAX_SPREAD, Math.max(1, this.#spread + SPREAD_GAIN * (isOver ? 0.99 : -0.01)));
    }
    this.model.note(load, ms);
  }

  get #aimMs(): number {
    return this.targetItlMs * Math.min(1, ALLOWED / this.#spread);
  }

  /** Prompt tokens from index `first` on that fit the time left: n with n w + (n first + n^2 / 2) v = left. */
  #tokensWithin(first: number): number {
    if (this.#leftMs === Infinity) return Infinity;
    if (this.#leftMs <= 0) return 0;
    const v = this.model.weight(stepLoad.promptKeys) / 1000;
    const w = this.model.weight(stepLoad.promptTokens) + first * v;
    const root = w + Math.sqrt(w * w + 2 * v * this.#leftMs);
    return root <= 0 ? Infinity : (2 * this.#leftMs) / root;
  }
}

function isDecoding(request: Request): boolean {
  return request.numScheduledTokens >= request.numPromptTokens && request.numBehind <= 1 + request.numDraftTokens;
}

/** Keys that tokens from an index on read: for each those up to itself. */
function keysRead(first: number, count: number): number {
  return count * first + (count * (count + 1)) / 2;
}
