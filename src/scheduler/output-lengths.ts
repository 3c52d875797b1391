/**
 * Predicts how long an output will become from how long earlier ones became, of those that were allowed about as much: requests of one kind name the
 * same `max_tokens`. Pure: the same history gives the same prediction.
 */

/** Earlier outputs that count. */
const HISTORY = 512;
/** Guess while there is no history, tokens. */
const FIRST_GUESS = 128;
/** Of the earlier outputs that became longer than this one is, the share that must end before the prediction. */
const QUANTILE = 0.5;

export class OutputLengths {
  /** By the power of two that `maxTokens` is under. */
  readonly #classes: (LengthHistory | undefined)[] = [];

  record(numTokens: number, maxTokens: number): void {
    const index = 32 - Math.clz32(maxTokens);
    const history = this.#classes[index] ?? new LengthHistory();
    this.#classes[index] = history;
    history.record(numTokens);
  }

  /** Tokens still to come of an output that has `numTokens` and may have `maxTokens`. At least 1. */
  predictRemaining(numTokens: number, maxTokens: number): number {
    const predicted = this.#classes[32 - Math.clz32(maxTokens)]?.predict(numTokens) ?? 0;
    // no history at all, or nobody became as long: another quarter is as good a guess as any
    const length = predicted > 0 ? predicted : Math.max(predicted < 0 ? 0 : FIRST_GUESS, Math.ceil(1.25 * numTokens), numTokens + 1);
    return Math.max(1, Math.min(length, maxTokens) - numTokens);
  }
}

class LengthHistory {
  /** Lengths of the last outputs, ring. */
  readonly #recent = new Int32Array(HISTORY);
  /** The same, ascending. */
  readonly #sorted = new Int32Array(HISTORY);
  #size = 0;
  #next = 0;

  record(numTokens: number): void {
    if (this.#size === HISTORY) this.#remove(this.#recent[this.#next]);
    this.#recent[this.#next] = numTokens;
    this.#next = (this.#next + 1) % HISTORY;
    const at = this.#numUpTo(numTokens);
    this.#sorted.copyWithin(at + 1, at, this.#size);
    this.#sorted[at] = numTokens;
    this.#size++;
  }

  /** Length that an output of more than `numTokens` is expected to have, or -1 when none was so long. */
  predict(numTokens: number): number {
    const longer = this.#numUpTo(numTokens);
    return longer === this.#size ? -1 : this.#sorted[longer + Math.floor((this.#size - 1 - longer) * QUANTILE)];
  }

  #remove(numTokens: number): void {
    const at = this.#numUpTo(numTokens) - 1;
    this.#sorted.copyWithin(at, at + 1, this.#size);
    this.#size--;
  }

  /** How many are at most that long. */
  #numUpTo(numTokens: number): number {
    let low = 0;
    let high = this.#size;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#sorted[middle] <= numTokens) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
