/** What passes between `worker-backend.ts` and `worker-main.ts`. Everything can be cloned; large arrays are moved. */
import { type ErrorCode, MillraceError, toMillraceError } from '../../base/errors.ts';
import type { Plan, WeightId } from '../../plan/plan.ts';
import type { SamplingBatch } from '../../sampling/sampling-batch.ts';
import { SHAPING_WIDTH } from '../../sampling/shaping.ts';
import type { CacheSpec, CompileOptions, ForwardBatch, KernelChoice, StepResult } from '../backend.ts';

/** A step with handles for programs and caches. */
export interface WireStep {
  readonly entries: readonly {
    readonly program: number;
    readonly cache: number | null;
    readonly batch: ForwardBatch;
    readonly embeddings?: { readonly entry: number; readonly output: string } | Float32Array;
  }[];
  readonly sampling: SamplingBatch | null;
  readonly host: { readonly needsLogits: boolean; readonly deadlineMs: number } | null;
  readonly readOutputs: readonly string[];
}

export interface WireProgram {
  readonly kernels: readonly KernelChoice[];
  readonly weightBytes: number;
  readonly arenaBytes: number;
}

/** Requests of the main thread, with what they are answered with. */
export interface Requests {
  /** `owner` tells sources of weights apart, `handle` names the program from now on. */
  compile: { ask: { handle: number; plan: Plan; owner: number; limits: Pick<CompileOptions, 'maxTokens' | 'maxLogitRows'> }; answer: WireProgram };
  closeProgram: { ask: { handle: number }; answer: null };
  createCache: { ask: { handle: number; spec: CacheSpec }; answer: { sizeBytes: number; blockBytes: readonly number[]; layout: string } };
  readBlocks: { ask: { handle: number; blocks: Int32Array }; answer: Uint8Array };
  writeBlocks: { ask: { handle: number; blocks: Int32Array; bytes: Uint8Array }; answer: null };
  closeCache: { ask: { handle: number }; answer: null };
  execute: { ask: WireStep; answer: StepResult };
}

/** Requests of the worker while it answers request `during` of the main thread. */
export interface CallBacks {
  weight: { ask: { weight: WeightId }; answer: Float32Array };
  host: { ask: { logits: Float32Array | null }; answer: { logits: Float32Array | null; masks: Uint32Array | null } };
}

export type Ask<Table> = {
  [Kind in keyof Table]: { id: number; kind: Kind; during: number; ask: Table[Kind] extends { ask: infer A } ? A : never };
}[keyof Table];

export type Answer = { id: number; answer: unknown } | { id: number; error: { code: ErrorCode; message: string } };

export type FromMain = { request: Ask<Requests> } | { answer: Answer };
export type FromWorker = { callBack: Ask<CallBacks> } | { answer: Answer };

/** Questions asked and not answered yet. */
export class Questions {
  readonly #waiting = new Map<number, { resolve(answer: never): void; reject(reason: MillraceError): void }>();
  #nextId = 1;

  get size(): number {
    return this.#waiting.size;
  }

  /** Sends a question under a new id and waits for its answer. */
  ask<T>(send: (id: number) => void): Promise<T> {
    const id = this.#nextId++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      send(id);
    });
  }

  settle(answer: Answer): void {
    const question = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if ('error' in answer) question?.reject(new MillraceError(answer.error.code, answer.error.message));
    else question?.resolve(answer.answer as never);
  }

  failAll(reason: MillraceError): void {
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
  }
}

export function errorAnswer(id: number, thrown: unknown): Answer {
  const { code, message } = toMillraceError(thrown, 'BACKEND_STEP_FAILED');
  return { id, error: { code, message } };
}

/** The used part of a batch in arrays of its own: cloning an array clones all of the buffer behind it. */
export function packBatch(batch: ForwardBatch, numGroups: number, numPositionAxes: number): ForwardBatch {
  const { numTokens, numRows, numLogitRows, numCopies, maxBlocks, ancestors, kept } = batch;
  return {
    numTokens,
    numRows,
    numLogitRows,
    tokenIds: batch.tokenIds.slice(0, numTokens),
    positions: batch.positions.slice(0, numPositionAxes * numTokens),
    rowStart: batch.rowStart.slice(0, numRows + 1),
    cacheIndex: batch.cacheIndex.slice(0, numTokens),
    visibleEnd: batch.visibleEnd.slice(0, numTokens),
    blockTables: batch.blockTables.slice(0, numGroups * numRows * maxBlocks),
    maxBlocks,
    slotMapping: batch.slotMapping.slice(0, numGroups * numTokens),
    logitTokens: batch.logitTokens.slice(0, numLogitRows),
    copies: batch.copies.slice(0, 4 * numCopies),
    numCopies,
    ...(ancestors === undefined ? {} : { ancestors: { start: ancestors.start.slice(0, numTokens + 1), slots: ancestors.slots.slice() } }),
    ...(kept === undefined ? {} : { kept: kept.slice(0, 2 * numRows) }),
  };
}

/** As `packBatch`. */
export function packSampling(batch: SamplingBatch): SamplingBatch {
  const { numRows, historyStart, biasStart } = batch;
  return {
    numRows,
    temperature: batch.temperature.slice(0, numRows),
    topP: batch.topP.slice(0, numRows),
    topK: batch.topK.slice(0, numRows),
    minP: batch.minP.slice(0, numRows),
    repetitionPenalty: batch.repetitionPenalty.slice(0, numRows),
    presencePenalty: batch.presencePenalty.slice(0, numRows),
    frequencyPenalty: batch.frequencyPenalty.slice(0, numRows),
    seed: batch.seed.slice(0, 2 * numRows),
    choice: batch.choice.slice(0, numRows),
    position: batch.position.slice(0, numRows),
    numLogprobs: batch.numLogprobs.slice(0, numRows),
    historyIds: batch.historyIds.slice(0, historyStart[numRows]),
    historyStart: historyStart.slice(0, numRows + 1),
    historyPrompt: batch.historyPrompt.slice(0, numRows),
    biasIds: batch.biasIds.slice(0, biasStart[numRows]),
    biasValues: batch.biasValues.slice(0, biasStart[numRows]),
    biasStart: biasStart.slice(0, numRows + 1),
    shaping: batch.shaping.slice(0, numRows * SHAPING_WIDTH),
    wantedIds: batch.wantedIds.slice(0, batch.wantedStart[numRows]),
    wantedStart: batch.wantedStart.slice(0, numRows + 1),
  };
}
