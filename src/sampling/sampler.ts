/**
 * The sampler: rows of logits in, one token a row out. Order of operations on each row:
 *
 * 1. A row with a NaN is reported as corrupted; so is one where nothing has a probability. Their token is 0 and means nothing.
 * 2. +Infinity: if a row holds any, those ids count as 0 and all others as -Infinity.
 * 3. Log probabilities come from these raw logits.
 * 4. Bias (with -Infinity for forbidden ids), then penalties: repetition over prompt and output, frequency and presence over the output.
 * 5. Allowed-token mask of the host stage (S2). If nothing is left, the row is reported.
 * 6. Temperature 0: the largest logit, ties to the lower id.
 * 7. Otherwise: temperature, top-k, softmax, top-p, min-p, draw and whatever else shapes the distribution (`draw.ts`), by uniform numbers of Philox at
 *    the row's position: number 0 draws, number 1 decides on XTC.
 *
 * A row's token depends on its own logits and parameters alone, never on its place in the batch. `native/cpu/sampler.cc` gives the same bits.
 */
import { uniformAt } from '../base/random.ts';
import { TokenDrawer } from './draw.ts';
import { type LogNormaliser, largest, logNormaliser, logprobOf } from './logprobs.ts';
import { applyBias } from './processors/bias.ts';
import { applyMask } from './processors/mask.ts';
import { applyPenalties } from './processors/penalties.ts';
import type { SamplingBatch } from './sampling-batch.ts';
import { readShaping } from './shaping.ts';

/** What became of a row: fine, a NaN among its logits, or no id left that may be sampled. */
export const rowStates = { fine: 0, notANumber: 1, nothingAllowed: 2 } as const;

/** The part of a step's result that the sampler makes; see `StepResult`. */
export interface SampledRows {
  readonly tokenIds: Int32Array;
  readonly logprobs: Float32Array;
  readonly topTokenIds: Int32Array;
  readonly topLogprobs: Float32Array;
  readonly maxTopLogprobs: number;
  /** One of `rowStates` a row. */
  readonly corrupted: Uint8Array;
  /** What mirostat's `mu` of each row came to; NaN where it is off. */
  readonly mirostatMu: Float32Array;
}

/** Of a step without rows to sample. */
export const NOTHING_SAMPLED: SampledRows = {
  tokenIds: new Int32Array(0),
  logprobs: new Float32Array(0),
  topTokenIds: new Int32Array(0),
  topLogprobs: new Float32Array(0),
  maxTopLogprobs: 0,
  corrupted: new Uint8Array(0),
  mirostatMu: new Float32Array(0),
};

export class Sampler {
  readonly #vocabSize: number;
  readonly #logits: Float32Array;
  readonly #scratch: Float32Array;
  readonly #counts: Int32Array;
  readonly #drawer: TokenDrawer;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
    this.#logits = new Float32Array(vocabSize);
    this.#scratch = new Float32Array(vocabSize);
    this.#counts = new Int32Array(vocabSize).fill(-1);
    this.#drawer = new TokenDrawer(vocabSize);
  }

  /** Samples `batch.numRows` rows of `logits [numRows, vocabSize]`, which stay as they are. `masks [numRows, ceil(vocabSize / 32)]`. */
  sample(logits: Float32Array, batch: SamplingBatch, masks: Uint32Array | null): SampledRows {
    const { numRows } = batch;
    let maxTopLogprobs = 0;
    for (let row = 0; row < numRows; row++) {
      if (batch.numLogprobs[row] < 0) continue;
      maxTopLogprobs = Math.max(maxTopLogprobs, batch.numLogprobs[row] + batch.wantedStart[row + 1] - batch.wantedStart[row]);
    }
    const result: SampledRows = {
      tokenIds: new Int32Array(numRows),
      logprobs: new Float32Array(numRows).fill(NaN),
      topTokenIds: new Int32Array(numRows * maxTopLogprobs).fill(-1),
      topLogprobs: new Float32Array(numRows * maxTopLogprobs).fill(NaN),
      maxTopLogprobs,
      corrupted: new Uint8Array(numRows),
      mirostatMu: new Float32Array(numRows).fill(NaN),
    };
    for (let row = 0; row < numRows; row++)
      this.#sampleRow(row, logits.subarray(row * this.#vocabSize, (row + 1) * this.#vocabSize), batch, masks, result);
    return result;
  }

  #sampleRow(row: number, raw: Float32Array, batch: SamplingBatch, masks: Uint32Array | null, result: SampledRows): void {
    this.#logits.set(raw);
    let maximum = this.#settledMaximum();
    const infinite = maximum === 0 && raw.includes(Infinity);
    result.corrupted[row] = stateOf(maximum);
    if (result.corrupted[row] !== rowStates.fine) return;
    const numLogprobs = batch.numLogprobs[row];
    const normaliser = numLogprobs >= 0 ? logNormaliser(this.#logits, this.#vocabSize, maximum, this.#scratch) : undefined;
    const best = numLogprobs > 0 ? largest(this.#logits, this.#vocabSize, numLogprobs, result.topTokenIds, row * result.maxTopLogprobs) : 0;
    if (normaliser !== undefined) {
      // behind the alternatives asked for, even where the vocabulary has fewer
      const wanted = batch.wantedIds.subarray(batch.wantedStart[row], batch.wantedStart[row + 1]);
      this.#reportAlternatives(row * result.maxTopLogprobs, best, normaliser, result);
      for (const [i, id] of wanted.entries()) this.#reportWanted(row * result.maxTopLogprobs + numLogprobs + i, id, normaliser, result);
    }
    if (this.#process(row, batch, masks)) {
      maximum = this.#settledMaximum();
      result.corrupted[row] = stateOf(maximum);
      if (result.corrupted[row] !== rowStates.fine) return;
    }
    const token = this.#choose(row, batch, maximum, result);
    result.tokenIds[row] = token;
    if (normaliser === undefined) return;
    const logit = !infinite ? raw[token] : raw[token] === Infinity ? 0 : -Infinity;
    result.logprobs[row] = logprobOf(logit, normaliser);
  }

  /** The largest logit; NaN if any is. Where it is +Infinity, all are replaced as step 2 says, and it is 0. */
  #settledMaximum(): number {
    const logits = this.#logits;
    let maximum = -Infinity;
    for (let id = 0; id < this.#vocabSize; id++) {
      if (logits[id] > maximum) maximum = logits[id];
      else if (Number.isNaN(logits[id])) return NaN;
    }
    if (maximum !== Infinity) return maximum;
    for (let id = 0; id < this.#vocabSize; id++) logits[id] = logits[id] === Infinity ? 0 : -Infinity;
    return 0;
  }

  #reportAlternatives(at: number, count: number, normaliser: LogNormaliser, result: SampledRows): void {
    for (let i = at; i < at + count; i++) result.topLogprobs[i] = logprobOf(this.#logits[result.topTokenIds[i]], normaliser);
  }

  #reportWanted(at: number, id: number, normaliser: LogNormaliser, result: SampledRows): void {
    if (id < 0 || id >= this.#vocabSize) return;
    result.topTokenIds[at] = id;
    result.topLogprobs[at] = logprobOf(this.#logits[id], normaliser);
  }

  /** Bias, penalties and mask. Returns whether anything may have changed. */
  #process(row: number, batch: SamplingBatch, masks: Uint32Array | null): boolean {
    const vocabSize = this.#vocabSize;
    const [biasBegin, biasEnd] = [batch.biasStart[row], batch.biasStart[row + 1]];
    if (biasEnd > biasBegin) applyBias(this.#logits, vocabSize, batch.biasIds, batch.biasValues, biasBegin, biasEnd);
    const [begin, end] = [batch.historyStart[row], batch.historyStart[row + 1]];
    const penalties = {
      repetition: batch.repetitionPenalty[row],
      presence: batch.presencePenalty[row],
      frequency: batch.frequencyPenalty[row],
    };
    const penalised = end > begin && (penalties.repetition !== 1 || penalties.presence !== 0 || penalties.frequency !== 0);
    if (penalised) applyPenalties(this.#logits, vocabSize, batch.historyIds, begin, end, batch.historyPrompt[row], penalties, this.#counts);
    if (masks !== null) applyMask(this.#logits, vocabSize, masks, row * Math.ceil(vocabSize / 32));
    return biasEnd > biasBegin || penalised || masks !== null;
  }

  #choose(row: number, batch: SamplingBatch, maximum: number, result: SampledRows): number {
    if (batch.temperature[row] === 0) return this.#logits.indexOf(maximum);
    const shape = { temperature: batch.temperature[row], topK: batch.topK[row], topP: batch.topP[row], minP: batch.minP[row] };
    const uniform = (draw: number) => uniformAt(batch.seed[2 * row], batch.seed[2 * row + 1], batch.choice[row], batch.position[row], draw);
    const token = this.#drawer.draw(this.#logits, maximum, shape, uniform(0), readShaping(batch.shaping, row), () => uniform(1));
    result.mirostatMu[row] = this.#drawer.mirostatMu;
    return token;
  }
}

function stateOf(maximum: number): number {
  if (Number.isNaN(maximum)) return rowStates.notANumber;
  return maximum === -Infinity ? rowStates.nothingAllowed : rowStates.fine;
}
