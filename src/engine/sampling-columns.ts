/** Sampling parameters of a step as columns, filled in place; rows that use no penalty and no bias cost nothing extra. */
import type { SamplingBatch } from '../sampling/sampling-batch.ts';
import { plainShaping, SHAPING_WIDTH, shapingFields } from '../sampling/shaping.ts';
import type { Request } from '../scheduler/request.ts';
import type { ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import { listedAlternatives } from './prompt-places.ts';
import { movingBias, type RequestSampling } from './request-sampling.ts';

const EMPTY = new Float32Array(0);
const PLAIN = Float32Array.from(shapingFields, (field) => plainShaping[field]);

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
  shaping: Float32Array = EMPTY;
  wantedIds = new Int32Array(64);
  readonly wantedStart: Int32Array;
  readonly #shaping: Float32Array;
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
    this.wantedStart = new Int32Array(maxLogitRows + 1);
    this.#shaping = new Float32Array(maxLogitRows * SHAPING_WIDTH);
  }

  /** Describes the rows of a step that want a token; valid until the next call. */
  fill(batch: ScheduledBatch, samplingOf: (request: Request) => RequestSampling): void {
    this.numRows = 0;
    this.shaping = EMPTY;
    for (let r = 0; r < batch.numRows; r++) {
      if (batch.numLogitRows[r] === 0) continue;
      const request = batch.requests[r];
      const sampling = samplingOf(request);
      const numTokens = batch.firstToken[r] + batch.numNewTokens[r] - (batch.numLogitRows[r] - 1);
      for (let draft = 0; draft < batch.numLogitRows[r]; draft++) this.#addRow(request, sampling, numTokens, draft);
    }
    for (let r = 0; r < batch.numRows; r++) {
      for (let i = 0; i < batch.numPromptRows[r]; i++) this.#addPromptRow(batch.requests[r], batch.firstToken[r] + i);
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
    if (sampling.shaping !== null && this.shaping.length === 0) {
      this.shaping = this.#shaping;
      for (let before = 0; before < row; before++) this.#shaping.set(PLAIN, before * SHAPING_WIDTH);
    }
    if (this.shaping.length > 0) this.#shaping.set(sampling.shaping ?? PLAIN, row * SHAPING_WIDTH);
    this.#addWanted(row, sampling.wantedIds);
    this.#addHistory(row, request, sampling, numDraftsBefore);
    this.#addBias(row, request, sampling, numTokens - request.numPromptTokens + numDraftsBefore);
  }

  /** A place of a prompt: nothing is drawn, the log probabilities are wanted of the token that follows and of the likeliest. */
  #addPromptRow(request: Request, index: number): void {
    const row = this.numRows++;
    this.temperature[row] = 0;
    this.topP[row] = 1;
    this.topK[row] = 0;
    this.minP[row] = 0;
    this.repetitionPenalty[row] = 1;
    this.presencePenalty[row] = 0;
    this.frequencyPenalty[row] = 0;
    this.position[row] = index + 1;
    this.numLogprobs[row] = listedAlternatives(request.params);
    this.historyStart[row + 1] = this.historyStart[row];
    this.historyPrompt[row] = 0;
    this.biasStart[row + 1] = this.biasStart[row];
    if (this.shaping.length > 0) this.#shaping.set(PLAIN, row * SHAPING_WIDTH);
    this.#addWanted(row, request.tokenIds.subarray(index + 1, index + 2));
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

  #addBias(row: number, request: Request, sampling: RequestSampling, numOutputTokens: number): void {
    const { biasIds, biasValues, endIds, dry, badWords } = sampling;
    let at = this.biasStart[row];
    const forbidsEnd = numOutputTokens < request.params.minTokens;
    const moves = dry !== null || badWords.length > 0;
    const moving = moves ? movingBias(sampling, idsBefore(request, numOutputTokens), request.numPromptTokens) : [];
    const count = biasIds.length + moving.length + (forbidsEnd ? endIds.length : 0);
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
    for (const [id, value] of moving) {
      this.biasIds[at] = id;
      this.biasValues[at++] = value;
    }
    for (let i = 0; forbidsEnd && i < endIds.length; i++, at++) {
      this.biasIds[at] = endIds[i];
      this.biasValues[at] = -Infinity;
    }
  }

  #addWanted(row: number, wantedIds: Int32Array): void {
    const start = this.wantedStart[row];
    this.wantedStart[row + 1] = start + wantedIds.length;
    if (wantedIds.length === 0) return;
    if (this.wantedIds.length < start + wantedIds.length) {
      const longer = new Int32Array(Math.max(start + wantedIds.length, this.wantedIds.length * 2));
      longer.set(this.wantedIds.subarray(0, start));
      this.wantedIds = longer;
    }
    this.wantedIds.set(wantedIds, start);
  }
}

/** Prompt and output, the drafts that count as output included. */
function idsBefore(request: Request, numOutputTokens: number): Int32Array {
  const known = request.tokenIds.subarray(0, request.numTokens);
  const numDrafts = request.numPromptTokens + numOutputTokens - request.numTokens;
  if (numDrafts <= 0) return known;
  return Int32Array.from([...known, ...request.draftTokenIds.subarray(0, numDrafts)]);
}
