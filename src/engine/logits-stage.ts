/** What is done with logits on this thread between forward and sampling (S2): functions of the caller change them, places of prompts are read. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { HostStage } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import type { Request } from '../scheduler/request.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import type { MaskStage } from './mask-stage.ts';
import { PromptPlaces } from './prompt-places.ts';

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
/** After so long the event loop gets a turn. */
const TURN_MS = 5;

export class LogitsStage implements HostStage {
  readonly needsLogits = true;
  readonly deadlineMs = DEADLINE_MS;
  /** Requests whose function threw. */
  readonly errors = new Map<Request, MillraceError>();
  /** Of the step's prompts, once it has run. */
  readonly places: PromptPlaces;
  readonly #batch: ScheduledBatch;
  readonly #processorsOf: (request: Request) => readonly LogitsProcessor[];
  readonly #masks: MaskStage | null;
  readonly #vocabSize: number;

  constructor(batch: ScheduledBatch, processorsOf: (request: Request) => readonly LogitsProcessor[], masks: MaskStage | null, vocabSize: number) {
    this.#batch = batch;
    this.#processorsOf = processorsOf;
    this.#masks = masks;
    this.#vocabSize = vocabSize;
    this.places = new PromptPlaces(vocabSize);
  }

  /** Whether any row of the step that is sampled has functions, or places of a prompt are read. */
  static isWanted(batch: ScheduledBatch, processorsOf: (request: Request) => readonly LogitsProcessor[]): boolean {
    if (batch.totalPromptRows > 0) return true;
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
    if (logits !== null) await this.#readPlaces(logits);
    return (await this.#masks?.process()) ?? null;
  }

  async #readPlaces(logits: Float32Array): Promise<void> {
    let startMs = performance.now();
    for (const _ of this.places.read(this.#batch, logits, this.#batch.totalLogitRows * this.#vocabSize)) {
      if (performance.now() - startMs < TURN_MS) continue;
      await nextTurn();
      startMs = performance.now();
    }
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
