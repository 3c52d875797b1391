/** Perplexity of a model on a text, and the divergence of one model from another: `millrace eval`. All sums in f64, in the order of the text. */
import { MillraceError } from '../base/errors.ts';
import type { Scorer } from '../engine/scorer.ts';
import { numScored, type ScoringOptions, type ScoringWindow, scoringWindows } from './scoring-windows.ts';
import { percentile } from './statistics.ts';

/** A mean over the counted tokens. The standard error takes tokens for independent, as llama-perplexity does; null of a single one. */
export interface Estimate {
  readonly mean: number;
  readonly standardError: number | null;
}

export interface PerplexityReport {
  /** Tokens that count. */
  readonly numTokens: number;
  /** Sum of their -ln p. */
  readonly totalNats: number;
  readonly natsPerToken: Estimate;
  /** exp of the mean; its error is the mean's times it. */
  readonly perplexity: Estimate;
}

export interface DivergenceReport {
  readonly numTokens: number;
  /** KL(reference || model) of each counted place, in nats. */
  readonly kl: { readonly mean: number; readonly standardError: number | null; readonly median: number; readonly p99: number; readonly max: number };
  /** Share of places where both find the same token likeliest (the lower id on ties). */
  readonly sameTop: Estimate;
  readonly model: PerplexityReport;
  readonly reference: PerplexityReport;
}

export type Watch = (done: number, total: number) => void;

/** @param ids whole text. @throws CONFIG_INVALID where nothing counts, BACKEND_STEP_FAILED for logits that are NaN */
export async function measurePerplexity(scorer: Scorer, ids: Int32Array, options: ScoringOptions, watch?: Watch): Promise<PerplexityReport> {
  const running = new RunningMean();
  await forEachPlace([scorer], ids, options, watch, ([logits], next) => running.add(logSumExp(logits) - logits[next]));
  return perplexityOf(running);
}

/**
 * How far `model` is from `reference` on a text. @param ids of the text, the same for both: `requireSameVocabulary`
 * @throws as `measurePerplexity`
 */
export async function measureDivergence(
  model: Scorer,
  reference: Scorer,
  ids: Int32Array,
  options: ScoringOptions,
  watch?: Watch,
): Promise<DivergenceReport> {
  const divergences = new Float64Array(numScored(scoringWindows(ids.length, options)));
  const [kl, sameTop, ofModel, ofReference] = [new RunningMean(), new RunningMean(), new RunningMean(), new RunningMean()];
  await forEachPlace([model, reference], ids, options, watch, ([logits, expected], next) => {
    const logSum = logSumExp(logits);
    const expectedLogSum = logSumExp(expected);
    const divergence = klDivergence(expected, expectedLogSum, logits, logSum);
    divergences[kl.count] = divergence;
    kl.add(divergence);
    sameTop.add(likeliest(logits) === likeliest(expected) ? 1 : 0);
    ofModel.add(logSum - logits[next]);
    ofReference.add(expectedLogSum - expected[next]);
  });
  return {
    numTokens: kl.count,
    kl: { ...kl.estimate(), median: percentile(divergences, 50), p99: percentile(divergences, 99), max: percentile(divergences, 100) },
    sameTop: sameTop.estimate(),
    model: perplexityOf(ofModel),
    reference: perplexityOf(ofReference),
  };
}

/**
 * The ids of a text where both models have one vocabulary: logits of the same width, the same ids for the text, each spelt alike.
 * @throws CONFIG_INVALID with what differs
 */
export function requireSameVocabulary(model: Scorer, reference: Scorer, ids: Int32Array, referenceIds: Int32Array): void {
  const differ = (expected: string, received: string): never => {
    throw new MillraceError('CONFIG_INVALID', {
      message: 'The two models have different vocabularies: their predictions cannot be compared.',
      expected,
      received,
      param: 'against',
    });
  };
  if (model.info.vocabSize !== reference.info.vocabSize) differ(`${model.info.vocabSize} ids`, `${reference.info.vocabSize} ids`);
  const length = Math.max(ids.length, referenceIds.length);
  const checked = new Set<number>();
  for (let i = 0; i < length; i++) {
    if (ids[i] !== referenceIds[i]) differ(`id ${ids[i] ?? 'none'} at token ${i} of the text`, `id ${referenceIds[i] ?? 'none'}`);
    if (checked.has(ids[i])) continue;
    checked.add(ids[i]);
    const [ours, theirs] = [model.tokenizer.tokenText(ids[i]), reference.tokenizer.tokenText(ids[i])];
    if (ours !== theirs) differ(`${JSON.stringify(ours)} for id ${ids[i]}`, JSON.stringify(theirs));
  }
}

/** Runs all windows through all scorers, step by step; `visit` gets the logits of each before a counted token, and that token. */
async function forEachPlace(
  scorers: readonly Scorer[],
  ids: Int32Array,
  options: ScoringOptions,
  watch: Watch | undefined,
  visit: (rows: readonly Float32Array[], next: number) => void,
): Promise<void> {
  const windows = scoringWindows(ids.length, options);
  const total = numScored(windows);
  if (total === 0) throw textTooShort(ids.length, options);
  let done = 0;
  for (const window of windows) {
    done += await scoreWindow(scorers, sequenceOf(ids, window, options, scorers[0]), window, visit);
    watch?.(done, total);
  }
}

/** @returns how many tokens counted */
async function scoreWindow(
  scorers: readonly Scorer[],
  sequence: Int32Array,
  { begin, firstScored }: ScoringWindow,
  visit: (rows: readonly Float32Array[], next: number) => void,
): Promise<number> {
  const perStep = Math.min(...scorers.map(({ info }) => info.maxTokensPerStep));
  const firstPlace = firstScored - begin - 1; // its logits predict the first counted token
  const last = sequence.length - 1; // nobody asks what follows the last token
  for (const scorer of scorers) scorer.begin();
  for (let at = 0; at < last; at += perStep) {
    const step = sequence.subarray(at, Math.min(at + perStep, last));
    const firstLogit = Math.min(step.length, Math.max(0, firstPlace - at));
    const logits: Float32Array[] = [];
    // one after the other: both would want all processors
    for (const scorer of scorers) logits.push(await scorer.feed(step, firstLogit));
    for (let i = firstLogit; i < step.length; i++) {
      const rows = logits.map((all, s) => rowOf(all, i - firstLogit, scorers[s].info.vocabSize));
      visit(rows, sequence[at + i + 1]);
    }
  }
  return Math.max(0, last - firstPlace);
}

const rowOf = (logits: Float32Array, row: number, width: number): Float32Array => logits.subarray(row * width, (row + 1) * width);

function sequenceOf(ids: Int32Array, { begin, end }: ScoringWindow, { method }: ScoringOptions, { tokenizer }: Scorer): Int32Array {
  const sequence = ids.slice(begin, end);
  if (method === 'llama.cpp' && tokenizer.bosTokenId !== null && ids[0] === tokenizer.bosTokenId) sequence[0] = tokenizer.bosTokenId;
  return sequence;
}

function textTooShort(numTokens: number, { method, context }: ScoringOptions): MillraceError {
  return new MillraceError('CONFIG_INVALID', {
    message: 'The text has too few tokens.',
    expected: method === 'sliding' ? 'at least 2 tokens' : `at least one whole context of ${context} tokens`,
    received: String(numTokens),
    param: 'file',
  });
}

/** ln of the sum of exp of a row. @throws BACKEND_STEP_FAILED where that is no number */
export function logSumExp(row: Float32Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < row.length; i++) if (row[i] > largest) largest = row[i];
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp(row[i] - largest);
  const result = largest + Math.log(sum);
  if (Number.isFinite(result)) return result;
  throw new MillraceError('BACKEND_STEP_FAILED', 'The model gave logits that are NaN or infinite: its weights or its text break it.');
}

/** KL(P || Q) in nats of two rows of logits with their `logSumExp`; 0 for equal rows, never below 0. */
export function klDivergence(p: Float32Array, pLogSum: number, q: Float32Array, qLogSum: number): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) {
    const logP = p[i] - pLogSum;
    const probability = Math.exp(logP);
    if (probability > 0) sum += probability * (logP - (q[i] - qLogSum));
  }
  return Math.max(0, sum); // rounding may leave -1e-17
}

/** Index of the largest value, the lower on a tie. */
function likeliest(row: Float32Array): number {
  let best = 0;
  for (let i = 1; i < row.length; i++) if (row[i] > row[best]) best = i;
  return best;
}

function perplexityOf(nats: RunningMean): PerplexityReport {
  const { mean, standardError } = nats.estimate();
  const perplexity = Math.exp(mean);
  return {
    numTokens: nats.count,
    totalNats: nats.sum,
    natsPerToken: { mean, standardError },
    perplexity: { mean: perplexity, standardError: standardError === null ? null : standardError * perplexity },
  };
}

/** Mean and variance of a stream of values (Welford's recurrence). */
class RunningMean {
  count = 0;
  sum = 0;
  #mean = 0;
  #squares = 0;

  add(value: number): void {
    this.count++;
    this.sum += value;
    const delta = value - this.#mean;
    this.#mean += delta / this.count;
    this.#squares += delta * (value - this.#mean);
  }

  estimate(): Estimate {
    const { count } = this;
    return { mean: this.sum / count, standardError: count > 1 ? Math.sqrt(this.#squares / count / (count - 1)) : null };
  }
}
