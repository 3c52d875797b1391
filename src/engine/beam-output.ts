/** A beam search on the engine's side: what the sampler reports of each beam in, rounds for the scheduler out, and at the end the texts. */
import type { StepResult } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import { checkOffers } from '../sampling/beam-params.ts';
import { BeamSearch, type FinishedHypothesis, offersWanted } from '../sampling/beam-search.ts';
import type { ResolvedSamplingParams } from '../sampling/params.ts';
import { BeamGroup } from '../scheduler/beam-group.ts';
import { Request, type RequestOptions } from '../scheduler/request.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import { IncrementalDetokenizer } from '../tokenizer/detokenizer.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { GenerateOptions } from './engine.ts';
import type { Generation } from './generation.ts';
import { type RequestSampling, requestSampling } from './request-sampling.ts';
import type { TokenLogprob } from './request-stream.ts';

export interface BeamParts {
  readonly tokenizer: Tokenizer;
  readonly vocabSize: number;
  readonly eosTokenIds: readonly number[];
}

const noTokens: ReadonlySet<number> = new Set();

/** @throws SAMPLING_PARAM_INVALID for what follows one text as it grows: a search has many */
function refuseFollowers({ logitsProcessors = [], stopWhen, calls }: GenerateOptions): void {
  const param = logitsProcessors.length > 0 ? 'logitsProcessors' : stopWhen !== undefined ? 'stopWhen' : calls !== undefined ? 'tools' : null;
  if (param === null) return;
  throw new MillraceError('SAMPLING_PARAM_INVALID', {
    message: `use_beam_search excludes ${param}.`,
    hint: 'It follows one text as it grows; a search follows several, and gives its texts at the end.',
    param,
  });
}

export class BeamOutput {
  readonly group: BeamGroup;
  readonly generation: Generation;
  readonly sampling: RequestSampling;
  readonly #parts: BeamParts;
  readonly #params: ResolvedSamplingParams;
  readonly #search: BeamSearch;
  readonly #markerTokenIds: ReadonlySet<number>;
  /** Alternatives in the place behind each node of the search; only where they are asked for. */
  readonly #top = new Map<number, TokenLogprob['top']>();

  /** @throws SAMPLING_PARAM_INVALID */
  constructor(generation: Generation, request: RequestOptions, options: GenerateOptions, parts: BeamParts) {
    const { params } = request;
    refuseFollowers(options);
    const ends = new Set(params.ignoreEos ? params.stopTokenIds : [...parts.eosTokenIds, ...params.stopTokenIds]);
    checkOffers(params.beamWidth, ends.size, parts.vocabSize);
    this.generation = generation;
    // nothing is drawn: only the log probabilities of the raw logits count
    const plain = { ...request, params: { ...params, temperature: 0, minTokens: 0 } };
    this.group = new BeamGroup(Array.from({ length: params.beamWidth }, (_, choice) => new Request({ ...plain, choice })));
    this.#parts = parts;
    this.#params = params;
    this.#markerTokenIds = options.markerTokenIds ?? noTokens;
    this.#search = new BeamSearch({
      width: params.beamWidth,
      maxTokens: params.maxTokens,
      minTokens: params.minTokens,
      lengthPenalty: params.lengthPenalty,
      earlyStopping: params.earlyStopping,
      endTokenIds: ends,
    });
    const numLogprobs = Math.min(Math.max(offersWanted(params.beamWidth, ends.size), params.topLogprobs), parts.vocabSize);
    this.sampling = { ...requestSampling(this.group.leader, [], parts.tokenizer, parts.vocabSize), numLogprobs, usesHistory: false, dry: null };
  }

  /** What a step reports of a beam that has computed all it has. */
  note(request: Request, result: StepResult, logitRow: number): void {
    const beam = this.group.beams.indexOf(request);
    const at = logitRow * result.maxTopLogprobs;
    this.#search.offer(beam, result.topTokenIds, result.topLogprobs, at, this.sampling.numLogprobs);
    if (this.#params.logprobs) this.#top.set(this.#search.nodeOf(beam), alternatives(result, at, this.#params.topLogprobs));
  }

  /** Decides the round if every beam has reported. @returns whether the search is done */
  goOn(scheduler: Scheduler): boolean {
    if (!this.group.isReady) return false;
    const { count, parents, tokenIds, isDone } = this.#search.decide();
    if (!isDone) scheduler.advance(this.group, count, parents, tokenIds);
    return isDone;
  }

  /** Of the best hypothesis. */
  get finishReason(): 'stop' | 'length' {
    return this.#search.finished[0]?.isEnded === true ? 'stop' : 'length';
  }

  /** Hands the best hypotheses to the stream. @returns tokens given */
  deliver(): number {
    let numTokens = 0;
    for (const [index, hypothesis] of this.#search.finished.slice(0, this.#params.n).entries()) numTokens += this.#deliver(index, hypothesis);
    return numTokens;
  }

  #deliver(index: number, { node, isEnded, cumulativeLogprob, score }: FinishedHypothesis): number {
    const { stream } = this.generation;
    const { tokenizer } = this.#parts;
    const { skipSpecialTokens, logprobs, includeStopStringInOutput, stopTokenIds } = this.#params;
    const detokenizer = new IncrementalDetokenizer(tokenizer, {
      skipSpecialTokens,
      promptTokenIds: this.group.leader.tokenIds.subarray(0, this.group.leader.numPromptTokens),
    });
    const { tree } = this.#search;
    const path = tree.path(node);
    const endId = isEnded ? tree.tokenId(node) : -1;
    const isStopId = isEnded && stopTokenIds.includes(endId);
    for (const at of path) {
      const tokenId = tree.tokenId(at);
      const isEnd = isEnded && at === node;
      const isMarker = !isEnd && this.#markerTokenIds.has(tokenId);
      const isHidden = isEnd && !(isStopId && includeStopStringInOutput);
      const text = isMarker ? detokenizer.flush() : isHidden ? '' : detokenizer.push(tokenId);
      const logprob = logprobs ? { tokenId, logprob: tree.logprob(at), top: this.#top.get(tree.parent(at)) ?? [] } : null;
      stream.push(index, tokenId, text, logprob, isMarker);
    }
    stream.noteBeam(index, { cumulativeLogprob, score });
    stream.finishChoice(index, detokenizer.flush(), isEnded ? 'stop' : 'length', isStopId ? endId : null);
    return path.length;
  }
}

function alternatives(result: StepResult, at: number, count: number): TokenLogprob['top'] {
  const top: { tokenId: number; logprob: number }[] = [];
  for (let i = at; i < at + count && result.topTokenIds[i] >= 0; i++) top.push({ tokenId: result.topTokenIds[i], logprob: result.topLogprobs[i] });
  return top;
}
