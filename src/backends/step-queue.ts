import { MillraceError } from '../base/errors.ts';

/** The rule of `Backend` that at most one step is in flight, or one reading or writing of blocks: a further one waits for those before it, however they end. */
export class StepQueue {
  /** When the next may begin. */
  #last: Promise<unknown> = Promise.resolve();
  #ended: Promise<unknown> = Promise.resolve();

  run<T>(step: () => Promise<T>): Promise<T> {
    return this.#add(this.#last.then(step));
  }

  /** For a device that keeps the order itself: the next one begins as soon as `given` was called, or the step has ended. */
  runAhead<T>(step: (given: () => void) => Promise<T>): Promise<T> {
    const before = this.#last;
    let result: Promise<T> | undefined;
    const isGiven = new Promise<void>((given) => {
      result = this.#add(before.then(() => step(given)));
    });
    this.#last = Promise.race([isGiven, this.#last]);
    return result ?? Promise.reject(new MillraceError('INTERNAL', 'a step was not begun'));
  }

  /** Resolves when every step given so far has ended. */
  async ended(): Promise<void> {
    await this.#ended;
  }

  #add<T>(result: Promise<T>): Promise<T> {
    this.#last = result.catch(() => undefined);
    this.#ended = Promise.all([this.#ended, this.#last]);
    return result;
  }
}
