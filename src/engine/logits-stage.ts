/** Functions of the caller that change logits: called between forward and sampling (S2), one row after another, on this thread. */
import type { HostStage } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import type { Request } from '../scheduler/request.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import type { MaskStage } from './mask-stage.ts';

/**
 * Changes the logits of one place, `[vocabSize]`, before anything else of sampling: in place, or by returning others. `tokenIds` are prompt and output so
 * far, a copy. Whatever it throws ends its request alone, with USER_FUNCTION_FAILED. It runs on the engine's thread: what is slow here, slows all.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: functions that return nothing are as welcome as those that return other logits
export type LogitsProcessor = (tokenIds: Int32Array, logits: Float32Array) => Float32Array | undefined | void;

/** Whether a choice ends here. Asked after each token; the same rule for what it throws. */
export type StopPredicate = (output: { readonly tokenIds: readonly number[]; readonly text: string; readonly choice: number }) => boolean;

/** Room for user functions that are slow; what takes longer ends the step. */
const DEADLINE_MS = 60_000;

export class LogitsStage implements HostStage {
  readonly needsLogits = true;
  readonly deadlineMs = DEADLINE_MS;
  /** Requests whose function threw. */
  readonly errors = new Map<Request, MillraceError>();
  readonly #batch: ScheduledBatch;
  readonly #processorsOf: (request: Request) => readonly LogitsProcessor[];
  readonly #masks: MaskStage | null;
  readonly #vocabSize: number;

  constructor(batch: ScheduledBatch, processorsOf: (request: Request) => readonly LogitsProcessor[], masks: MaskStage | null, vocabSize: number) {
    this.#batch = batch;
    this.#processorsOf = processorsOf;
    this.#masks = masks;
    this.#vocabSize = vocabSize;
  }

  /** Whether any row of the step that is sampled has functions. */
  static isWanted(batch: ScheduledBatch, processorsOf: (request: Request) => readonly LogitsProcessor[]): boolean {
    for (let row = 0; row < batch.numRows; row++) {
      if (batch.numLogitRows[row] > 0 && processorsOf(batch.requests[row]).length > 0) return true;
    }
    return false;
  }

  begin(): Promise<unknown> {
    return this.#masks?.begin() ?? Promise.resolve();
  }

  async process(logits: Float32Array | null): Promise<Uint32Array | null> {
    const batch = this.#batch;
    let logitRow = 0;
    for (let row = 0; row < batch.numRows; row++) {
      for (let i = 0; i < batch.numLogitRows[row]; i++, logitRow++) {
        if (logits === null) continue;
        const begin = logitRow * this.#vocabSize;
        this.#processRow(batch.requests[row], logits.subarray(begin, begin + this.#vocabSize), i);
      }
    }
    return (await this.#masks?.process()) ?? null;
  }

  #processRow(request: Request, logits: Float32Array, numDrafts: number): void {
    for (const processor of this.#processorsOf(request)) {
      if (this.errors.has(request)) return;
      try {
        const ids = new Int32Array(request.numTokens + numDrafts);
        ids.set(request.tokenIds.subarray(0, request.numTokens));
        ids.set(request.draftTokenIds.subarray(0, numDrafts), request.numTokens);
        const changed: unknown = processor(ids, logits);
        if (changed === undefined) continue;
        if (!(changed instanceof Float32Array) || changed.length !== logits.length) {
          throw new TypeError(`A logits processor returns nothing or a Float32Array of ${logits.length} numbers; promises are not waited for.`);
        }
        logits.set(changed);
      } catch (thrown) {
        this.errors.set(request, userFunctionFailed('A logits processor', thrown));
      }
    }
  }
}

export function userFunctionFailed(what: string, thrown: unknown): MillraceError {
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return new MillraceError('USER_FUNCTION_FAILED', { message: `${what} of the request threw: ${reason.slice(0, 500)}`, cause: thrown });
}
