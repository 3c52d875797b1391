/** Sampling parameters of a step as columns, filled in place; rows that use no penalty and no bias cost nothing extra. */
import type { SamplingBatch } from '../sampling/sampling-batch.ts';
import type { Request } from '../scheduler/request.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';

/** What a request's parameters come to, worked out once at admission. */
export interface RequestSampling {
  readonly seedLow: number;
  readonly seedHigh: number;
  readonly biasIds: Int32Array;
  readonly biasValues: Float32Array;
  /** Ids that would end the generation: forbidden until `minTokens` are there. */
  readonly endIds: Int32Array;
  readonly usesHistory: boolean;
  /** As `SamplingBatch.numLogprobs`. */
  readonly numLogprobs: number;
}

export function requestSampling(request: Request, eosTokenIds: readonly number[]): RequestSampling {
  const { params } = request;
  const seed = BigInt.asUintN(64, BigInt(params.seed));
  const bias = Object.entries(params.logitBias);
  const ends = params.ignoreEos ? params.stopTokenIds : [...eosTokenIds, ...params.stopTokenIds];
  return {
    seedLow: Number(seed & 0xffffffffn),
    seedHigh: Number(seed >> 32n),
    biasIds: Int32Array.from(bias, ([id]) => Number(id)),
    biasValues: Float32Array.from(bias, ([, value]) => value),
    endIds: params.minTokens > 0 ? Int32Array.from(new Set(ends)) : new Int32Array(0),
    usesHistory: params.repetitionPenalty !== 1 || params.presencePenalty !== 0 || params.frequencyPenalty !== 0,
    numLogprobs: params.logprobs ? params.topLogprobs : -1,
  };
}

export class FilledSamplingBatch implements SamplingBatch {
  numRows = 0;
  readonly temperature: Float32Array;
  readonly topP: Float32Array;
  readonly topK: Int32Array;
  readonly minP: Float32Array;
  readonly repetitionPenalty: Float32Array;
  readonly presencePenalty: Float32Array;
  readonly frequencyPenalty: Float32Array;
  readonly seed: Uint32Array;
  readonly choice: Uint32Array;
  readonly position: Uint32Array;
  readonly numLogprobs: Int32Array;
  readonly historyStart: Int32Array;
  readonly historyPrompt: Int32Array;
  readonly biasStart: Int32Array;
  historyIds = new Int32Array(1024);
  biasIds = new Int32Array(64);
  biasValues = new Float32Array(64);

  constructor(maxLogitRows: number) {
    this.temperature = new Float32Array(maxLogitRows);
    this.topP = new Float32Array(maxLogitRows);
    this.topK = new Int32Array(maxLogitRows);
    this.minP = new Float32Array(maxLogitRows);
    this.repetitionPenalty = new Float32Array(maxLogitRows);
    this.presencePenalty = new Float32Array(maxLogitRows);
    this.frequencyPenalty = new Float32Array(maxLogitRows);
    this.seed = new Uint32Array(2 * maxLogitRows);
    this.choice = new Uint32Array(maxLogitRows);
    this.position = new Uint32Array(maxLogitRows);
    this.numLogprobs = new Int32Array(maxLogitRows);
    this.historyStart = new Int32Array(maxLogitRows + 1);
    this.historyPrompt = new Int32Array(maxLogitRows);
    this.biasStart = new Int32Array(maxLogitRows + 1);
  }

  /** Describes the rows of a step that want a token; valid until the next call. */
  fill(batch: ScheduledBatch, samplingOf: (request: Request) => RequestSampling): void {
    this.numRows = 0;
    for (let r = 0; r < batch.numRows; r++) {
      if (batch.numLogitRows[r] === 0) continue;
      const request = batch.requests[r];
      const sampling = samplingOf(request);
      const numTokens = batch.firstToken[r] + batch.numNewTokens[r] - (batch.numLogitRows[r] - 1);
      for (let draft = 0; draft < batch.numLogitRows[r]; draft++) this.#addRow(request, sampling, numTokens, draft);
    }
  }

  /** @param numTokens tokens before the drafts, a pending sample included */
  #addRow(request: Request, sampling: RequestSampling, numTokens: number, numDraftsBefore: number): void {
    const row = this.numRows++;
    const { params } = request;
    this.temperature[row] = params.temperature;
    this.topP[row] = params.topP;
    this.topK[row] = params.topK;
    this.minP[row] = params.minP;
    this.repetitionPenalty[row] = params.repetitionPenalty;
    this.presencePenalty[row] = params.presencePenalty;
    this.frequencyPenalty[row] = params.frequencyPenalty;
    this.seed[2 * row] = sampling.seedLow;
    this.seed[2 * row + 1] = sampling.seedHigh;
    this.choice[row] = request.choice;
    this.position[row] = numTokens + numDraftsBefore;
    this.numLogprobs[row] = sampling.numLogprobs;
    this.#addHistory(row, request, sampling, numDraftsBefore);
    this.#addBias(row, request, sampling, numTokens - request.numPromptTokens + numDraftsBefore);
  }

  #addHistory(row: number, request: Request, { usesHistory }: RequestSampling, numDraftsBefore: number): void {
    const start = this.historyStart[row];
    const count = usesHistory ? request.numTokens + numDraftsBefore : 0;
    if (this.historyIds.length < start + count) {
      const longer = new Int32Array(Math.max(start + count, this.historyIds.length * 2));
      longer.set(this.historyIds.subarray(0, start));
      this.historyIds = longer;
    }
    if (usesHistory) {
      this.historyIds.set(request.tokenIds.subarray(0, request.numTokens), start);
      this.historyIds.set(request.draftTokenIds.subarray(0, numDraftsBefore), start + request.numTokens);
    }
    this.historyPrompt[row] = usesHistory ? request.numPromptTokens : 0;
    this.historyStart[row + 1] = start + count;
  }

  #addBias(row: number, request: Request, { biasIds, biasValues, endIds }: RequestSampling, numOutputTokens: number): void {
    let at = this.biasStart[row];
    const forbidsEnd = numOutputTokens < request.params.minTokens;
    const count = biasIds.length + (forbidsEnd ? endIds.length : 0);
    this.biasStart[row + 1] = at + count;
    if (count === 0) return;
    if (this.biasIds.length < at + count) {
      const size = Math.max(at + count, this.biasIds.length * 2);
      const ids = new Int32Array(size);
      const values = new Float32Array(size);
      ids.set(this.biasIds.subarray(0, at));
      values.set(this.biasValues.subarray(0, at));
      this.biasIds = ids;
      this.biasValues = values;
    }
    this.biasIds.set(biasIds, at);
    this.biasValues.set(biasValues, at);
    at += biasIds.length;
    for (let i = 0; forbidsEnd && i < endIds.length; i++, at++) {
      this.biasIds[at] = endIds[i];
      this.biasValues[at] = -Infinity;
    }
  }
}
