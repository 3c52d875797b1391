import type { StepResult } from './backend.ts';

/** The rule of `Backend.execute` that at most one step is in flight: a further one waits for those before it, however they end. */
export class StepQueue {
  #last: Promise<unknown> = Promise.resolve();

  run(step: () => Promise<StepResult>): Promise<StepResult> {
    const result = this.#last.then(step);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when every step given so far has ended. */
  async ended(): Promise<void> {
    await this.#last;
  }
}
