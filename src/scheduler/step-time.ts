/**
 * How long a step takes, learnt from the steps that have run: a weighted sum of what is in it, its weights fitted by least squares under the
 * constraint that none is negative, newer steps counting more. No clock: whoever runs the steps says what they took.
 */

/** What a step holds, as columns of a `Float64Array`. */
export const stepLoad = {
  /** Prompt tokens, and those that a preempted request computes again. */
  promptTokens: 0,
  /** Rows that compute one token of an output (and its drafts). */
  decodeRows: 1,
  /** The step itself. */
  step: 2,
  /** Keys that decode rows read, in thousands. */
  decodeKeys: 3,
  /** Keys that prompt tokens read, in thousands: for each token those before it. */
  promptKeys: 4,
} as const;

export const LOAD_WIDTH = 5;

/** Weight that an observation keeps when another of its kind comes: some 60 steps count. */
const KEPT = 0.984;
/** Weight of the newest step in the pace, which follows a device that slows down or speeds up until the fit has. */
const PACE_GAIN = 0.15;
/** One step counts as at most so many times faster or slower than expected: a stall is no law. */
const MAX_SURPRISE = 2;
/** Steps that are believed as they are, while there is little to compare with. */
const UNCHECKED_STEPS = 4;
/** Sweeps of the solver a step: it goes on from the solution before. */
const SWEEPS = 12;

/** Sums of one kind of steps: products of columns, and of columns with times. */
class Moments {
  readonly products = new Float64Array(LOAD_WIDTH * LOAD_WIDTH);
  readonly times = new Float64Array(LOAD_WIDTH);

  note(load: Float64Array, ms: number): void {
    for (let i = 0; i < LOAD_WIDTH; i++) {
      this.times[i] = this.times[i] * KEPT + load[i] * ms;
      for (let j = 0; j < LOAD_WIDTH; j++) this.products[i * LOAD_WIDTH + j] = this.products[i * LOAD_WIDTH + j] * KEPT + load[i] * load[j];
    }
  }
}

/**
 * Steps with and without prompt tokens fade apart from each other, so that what a prompt token costs is not forgotten in a long stretch of decode.
 * No allocation after construction.
 */
export class StepTimeModel {
  readonly #withPrompt = new Moments();
  readonly #decodeOnly = new Moments();
  /** Milliseconds a unit of each column. */
  readonly #weights = new Float64Array(LOAD_WIDTH);
  #pace = 1;
  #numSteps = 0;
  #numPromptSteps = 0;

  /** Whether a step with prompt tokens has been seen: before, nothing is known of them. */
  get isMeasured(): boolean {
    return this.#numPromptSteps > 0;
  }

  /** Milliseconds that a step with this load is expected to take. */
  predict(load: Float64Array): number {
    let ms = 0;
    for (let i = 0; i < LOAD_WIDTH; i++) ms += this.#weights[i] * load[i];
    return ms * this.#pace;
  }

  /** Milliseconds a unit of a column. */
  weight(column: number): number {
    return this.#weights[column] * this.#pace;
  }

  /** A step with this load took so long. Times that no step can take, as when a clock was set, are passed over. */
  note(load: Float64Array, ms: number): void {
    if (!Number.isFinite(ms) || ms <= 0) return;
    const hasPrompt = load[stepLoad.promptTokens] > 0;
    const expected = this.predict(load);
    let believed = ms;
    const isKnown = this.#numSteps >= UNCHECKED_STEPS && (!hasPrompt || this.#numPromptSteps >= UNCHECKED_STEPS);
    if (isKnown && expected > 0) {
      believed = Math.min(MAX_SURPRISE * expected, Math.max(expected / MAX_SURPRISE, ms));
      const fitted = expected / this.#pace;
      this.#pace += PACE_GAIN * (believed / fitted - this.#pace);
    }
    (hasPrompt ? this.#withPrompt : this.#decodeOnly).note(load, believed);
    this.#numSteps++;
    if (hasPrompt) this.#numPromptSteps++;
    for (let sweep = 0; sweep < SWEEPS; sweep++) this.#improve();
  }

  /** One round of coordinate descent. Prompt tokens come first: what one step alone cannot tell apart is put down to them, the cautious reading. */
  #improve(): void {
    const { products: a, times: y } = this.#withPrompt;
    const { products: b, times: z } = this.#decodeOnly;
    for (let i = 0; i < LOAD_WIDTH; i++) {
      const row = i * LOAD_WIDTH;
      const square = a[row + i] + b[row + i];
      if (square <= 0) continue;
      let rest = y[i] + z[i];
      for (let j = 0; j < LOAD_WIDTH; j++) if (j !== i) rest -= (a[row + j] + b[row + j]) * this.#weights[j];
      this.#weights[i] = Math.max(0, rest / square);
    }
  }
}
