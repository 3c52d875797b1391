/** The rule of `Backend` that at most one step is in flight, or one reading or writing of blocks: a further one waits for those before it, however they end. */
export class StepQueue {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(step: () => Promise<T>): Promise<T> {
    const result = this.#last.then(step);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when every step given so far has ended. */
  async ended(): Promise<void> {
    await this.#last;
  }
}
