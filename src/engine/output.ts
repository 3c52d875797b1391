/** From a step's tokens to text in the callers' hands: detokenise, look for an end, push, finish. */
import type { StepResult } from '../backends/backend.ts';
import { MillraceError } from '../base/errors.ts';
import { shapingFields } from '../sampling/shaping.ts';
import type { Request } from '../scheduler/request.ts';
import type { CommittedBatch, ScheduledBatch } from '../scheduler/scheduled-batch.ts';
import type { Scheduler } from '../scheduler/scheduler.ts';
import type { BeamOutput } from './beam-output.ts';
import type { FinishedRequest } from './engine.ts';
import type { Choice, Generation } from './generation.ts';
import type { HeldOutput } from './held-output.ts';
import { type LogitsProcessor, userFunctionFailed } from './logits-stage.ts';
import type { OutputRules } from './mask-stage.ts';
import { listedAlternatives, type PromptPlaces } from './prompt-places.ts';
import type { RequestSampling } from './request-sampling.ts';
import type { FinishReason, TokenLogprob } from './request-stream.ts';
import type { EngineCounters } from './stats.ts';

export interface OutputParts {
  readonly scheduler: Scheduler;
  readonly counters: EngineCounters;
  readonly eosTokenIds: ReadonlySet<number>;
  /** Whether tokens that a grammar forces are taken without a step for each. */
  readonly jumpForward: boolean;
  /** Told of every generation that ended. Must not throw. */
  onFinished(event: FinishedRequest): void;
}

/** Forced tokens that a row takes after one step at most: finding them takes time of this thread. */
const MAX_JUMP = 64;

/** Where the ends of a choice come from. */
interface Ending {
  readonly finishReason: FinishReason;
  readonly stopReason: string | number | null;
}

export class OutputStage {
  readonly #parts: OutputParts;
  readonly #choices = new Map<Request, Choice>();
  readonly #beams = new Map<Request, BeamOutput>();
  /** Generations that have not ended, by order of arrival. */
  readonly #open = new Set<Generation>();

  constructor(parts: OutputParts) {
    this.#parts = parts;
  }

  /** Streams that have not ended. */
  get numOpen(): number {
    return this.#open.size;
  }

  register(generation: Generation): void {
    this.#open.add(generation);
    generation.numOpenChoices = generation.choices.length;
    for (const choice of generation.choices) this.#choices.set(choice.request, choice);
    const { beams } = generation;
    for (const request of beams?.group.all ?? []) if (beams !== null) this.#beams.set(request, beams);
  }

  samplingOf(request: Request): RequestSampling | undefined {
    return (this.#choices.get(request) ?? this.#beams.get(request))?.sampling;
  }

  rulesOf(request: Request): OutputRules {
    const choice = this.#choices.get(request);
    return { held: choice?.held ?? null, allowed: choice?.sampling.allowed ?? null };
  }

  processorsOf(request: Request): readonly LogitsProcessor[] {
    return this.#choices.get(request)?.logitsProcessors ?? [];
  }

  /** Ends rows whose logits were unusable, before their meaningless tokens are booked. */
  failCorrupted(batch: ScheduledBatch, result: StepResult, nowMs: number): void {
    let logitRow = 0;
    for (let row = 0; row < batch.numRows; row++) {
      for (let i = 0; i < batch.numLogitRows[row]; i++) {
        const state = result.corrupted[logitRow + i];
        if (state !== 0)
          this.failRequest(batch.requests[row], corruption(state, this.#choices.get(batch.requests[row])?.held?.hasGrammar ?? false), nowMs);
      }
      logitRow += batch.numLogitRows[row];
    }
  }

  /** Notes the log probabilities of places of prompts. */
  deliverPrompts(batch: ScheduledBatch, result: StepResult, places: PromptPlaces | null): void {
    let logitRow = batch.totalLogitRows;
    for (let row = 0; row < batch.numRows; row++) {
      const request = batch.requests[row];
      const choice = this.#choices.get(request);
      for (let i = 0; i < batch.numPromptRows[row]; i++, logitRow++) {
        const index = batch.firstToken[row] + i + 1;
        const place = places?.at(logitRow - batch.totalLogitRows);
        const { top, wanted = [] } = tokenLogprob(result, logitRow, listedAlternatives(request.params), 1);
        const [token] = wanted;
        if (token !== undefined) choice?.generation.stream.notePrompt(index, { ...token, top: place?.top ?? top, rank: place?.rank ?? null });
        if (index === request.numPromptTokens - 1) request.wantsPromptRows = false;
      }
    }
  }

  /** Hands out the tokens that `commit` has just booked. */
  deliver(batch: ScheduledBatch, { numAppended }: CommittedBatch, result: StepResult, nowMs: number): void {
    let logitRow = 0;
    for (let row = 0; row < batch.numRows; row++) {
      const choice = this.#choices.get(batch.requests[row]);
      let ending: Ending | null = null;
      // tokens behind an end do not exist
      for (let i = 0; choice !== undefined && ending === null && i < numAppended[row]; i++) {
        const { params } = choice.request;
        const logprob =
          choice.sampling.numLogprobs >= 0 ? tokenLogprob(result, logitRow + i, params.topLogprobs, params.logprobTokenIds.length) : null;
        if (choice.sampling.shaping !== null) moveMirostat(choice.sampling.shaping, result.mirostatMu[logitRow + i]);
        ending = this.#deliverToken(choice, result.tokenIds[logitRow + i], logprob, nowMs);
      }
      // a function of the caller may have failed it just now
      if (choice !== undefined && this.#choices.has(choice.request) && numAppended[row] > 0) {
        ending ??= this.#jumpForward(choice, nowMs);
        if (ending !== null && this.#choices.has(choice.request)) this.#endChoice(choice, ending, nowMs);
      }
      logitRow += batch.numLogitRows[row];
    }
    if (this.#beams.size > 0) this.#search(batch, result, nowMs);
  }

  /** What the step says of beams; searches of which all beams have it go on, or end. */
  #search(batch: ScheduledBatch, result: StepResult, nowMs: number): void {
    const reached: BeamOutput[] = [];
    let logitRow = 0;
    for (let row = 0; row < batch.numRows; row++) {
      const beams = batch.numLogitRows[row] === 0 ? undefined : this.#beams.get(batch.requests[row]);
      if (beams !== undefined && batch.requests[row].status === 'running') {
        beams.note(batch.requests[row], result, logitRow);
        if (!reached.includes(beams)) reached.push(beams);
      }
      logitRow += batch.numLogitRows[row];
    }
    for (const beams of reached) {
      const { leader } = beams.group;
      this.#countFirst(beams.generation, leader, nowMs);
      if (beams.goOn(this.#parts.scheduler)) this.#endSearch(beams, nowMs);
    }
  }

  #endSearch(beams: BeamOutput, nowMs: number): void {
    const { generation } = beams;
    generation.numTokens = beams.deliver();
    this.#parts.counters.generationTokens += generation.numTokens;
    this.#parts.scheduler.finish(beams.group.leader);
    this.#endGeneration(generation, beams.finishReason, nowMs);
  }

  /**
   * Takes the tokens that the grammar forces next: the request is then behind by them, and the next step computes them together. The mask
   * allows nothing else in their places, so that they are what one step each would have drawn.
   */
  #jumpForward(choice: Choice, nowMs: number): Ending | null {
    const { held, request } = choice;
    // log probabilities come from logits of each place; ends that are still forbidden are the sampler's business
    if (
      held === null ||
      !this.#parts.jumpForward ||
      choice.sampling.numLogprobs >= 0 ||
      choice.sampling.forbidsJumps ||
      choice.logitsProcessors.length > 0
    )
      return null;
    for (let i = 0; i < MAX_JUMP && choice.numTokens >= request.params.minTokens; i++) {
      const tokenId = forcedToken(held);
      if (tokenId < 0) return null;
      this.#parts.scheduler.extend(request, tokenId);
      this.#parts.counters.jumpForwardTokens++;
      const ending = this.#deliverToken(choice, tokenId, null, nowMs);
      if (ending !== null || !this.#choices.has(request)) return ending;
    }
    return null;
  }

  /** Ends the whole generation of a request. */
  failRequest(request: Request, error: MillraceError, nowMs: number): void {
    const generation = (this.#choices.get(request) ?? this.#beams.get(request))?.generation;
    if (generation === undefined) return;
    generation.stream.fail(error);
    this.drop(generation, 'error', nowMs);
  }

  failAll(error: MillraceError, nowMs: number): void {
    for (const generation of this.#open) {
      generation.stream.fail(error);
      this.drop(generation, 'error', nowMs);
    }
  }

  /** Forgets a generation whose stream has ended by itself, and frees its blocks. Idempotent. */
  drop(generation: Generation, finishReason: FinishedRequest['finishReason'], nowMs: number): void {
    if (!this.#open.delete(generation)) return;
    for (const { request } of generation.choices) {
      this.#parts.scheduler.abort(request);
      this.#choices.delete(request);
    }
    if (generation.beams !== null) this.#parts.scheduler.abort(generation.beams.group.leader);
    this.#forgetBeams(generation);
    this.#parts.onFinished(generation.summary(finishReason, nowMs));
  }

  #deliverToken(choice: Choice, tokenId: number, logprob: TokenLogprob | null, nowMs: number): Ending | null {
    const { request, generation } = choice;
    const { params } = request;
    this.#countToken(choice, nowMs);
    choice.held?.accept(tokenId);
    let ending = choice.numTokens > params.minTokens ? this.#endToken(request, tokenId) : null;
    let text = '';
    const isMarker = ending === null && choice.markerTokenIds.has(tokenId);
    if (isMarker) text = choice.stops.push(choice.detokenizer.flush()).text + choice.stops.flush();
    else if (ending === null || (ending.stopReason !== null && params.includeStopStringInOutput)) {
      const piece = choice.detokenizer.push(tokenId);
      if (choice.numTokens < params.minTokens) text = choice.stops.pass(piece);
      else {
        const match = choice.stops.push(piece);
        text = match.text;
        if (match.stop !== null) ending = { finishReason: 'stop', stopReason: match.stop };
      }
    }
    // a text to which nothing can be added has ended, whether or not the model has an end token
    if (ending === null && choice.held?.isFinished === true) ending = { finishReason: 'stop', stopReason: null };
    if (ending === null && choice.numTokens >= params.maxTokens) ending = { finishReason: 'length', stopReason: null };
    generation.stream.push(request.choice, tokenId, text, logprob, isMarker);
    return ending ?? this.#askCaller(choice, tokenId, text, nowMs);
  }

  #askCaller(choice: Choice, tokenId: number, text: string, nowMs: number): Ending | null {
    const { stopWhen, written, request } = choice;
    if (stopWhen === null) return null;
    written.tokenIds.push(tokenId);
    written.text += text;
    try {
      return stopWhen({ ...written, choice: request.choice }) ? { finishReason: 'stop', stopReason: null } : null;
    } catch (thrown) {
      this.failRequest(request, userFunctionFailed('stopWhen', thrown), nowMs);
      return null;
    }
  }

  #endToken({ params }: Request, tokenId: number): Ending | null {
    if (params.stopTokenIds.includes(tokenId)) return { finishReason: 'stop', stopReason: tokenId };
    if (!params.ignoreEos && this.#parts.eosTokenIds.has(tokenId)) return { finishReason: 'stop', stopReason: null };
    return null;
  }

  #countToken(choice: Choice, nowMs: number): void {
    const { generation, request } = choice;
    const { counters } = this.#parts;
    counters.generationTokens++;
    generation.numTokens++;
    if (choice.numTokens++ > 0) generation.addGap(nowMs - choice.lastTokenMs);
    choice.lastTokenMs = nowMs;
    this.#countFirst(generation, request, nowMs);
  }

  #countFirst(generation: Generation, request: Request, nowMs: number): void {
    if (generation.firstTokenMs !== null) return;
    generation.firstTokenMs = nowMs;
    generation.scheduledMs = request.scheduledMs;
    generation.stream.countCached(request.numCachedTokens);
    this.#parts.counters.promptTokens += request.numPromptTokens;
  }

  #endChoice(choice: Choice, { finishReason, stopReason }: Ending, nowMs: number): void {
    const { request, generation, stops, detokenizer } = choice;
    const rest = stops.push(detokenizer.flush()).text + stops.flush();
    this.#parts.scheduler.finish(request);
    this.#choices.delete(request);
    generation.stream.finishChoice(request.choice, rest, finishReason, stopReason);
    if (--generation.numOpenChoices > 0) return;
    this.#endGeneration(generation, finishReason, nowMs);
  }

  #forgetBeams({ beams }: Generation): void {
    for (const request of beams?.group.all ?? []) this.#beams.delete(request);
  }

  #endGeneration(generation: Generation, finishReason: FinishReason, nowMs: number): void {
    this.#open.delete(generation);
    this.#forgetBeams(generation);
    const summary = generation.summary(finishReason, nowMs);
    generation.stream.complete({ queueMs: summary.queueMs, firstTokenMs: summary.firstTokenMs, totalMs: summary.totalMs });
    this.#parts.onFinished(summary);
  }
}

/** A grammar that cannot say it is asked again, and fails, where its mask is made. */
function forcedToken(held: HeldOutput): number {
  try {
    return held.forcedToken;
  } catch {
    return -1;
  }
}

const MU = shapingFields.indexOf('mirostatMu');

function moveMirostat(shaping: Float32Array, mu: number): void {
  if (!Number.isNaN(mu)) shaping[MU] = mu;
}

function tokenLogprob(result: StepResult, logitRow: number, topLogprobs: number, numWanted: number): TokenLogprob {
  const top: { tokenId: number; logprob: number }[] = [];
  const base = logitRow * result.maxTopLogprobs;
  for (let i = 0; i < topLogprobs && result.topTokenIds[base + i] >= 0; i++) {
    top.push({ tokenId: result.topTokenIds[base + i], logprob: result.topLogprobs[base + i] });
  }
  const wanted: { tokenId: number; logprob: number }[] = [];
  for (let i = base + topLogprobs; i < base + topLogprobs + numWanted; i++) {
    wanted.push({ tokenId: result.topTokenIds[i], logprob: result.topLogprobs[i] });
  }
  return { tokenId: result.tokenIds[logitRow], logprob: result.logprobs[logitRow], top, ...(numWanted === 0 ? {} : { wanted }) };
}

function corruption(state: number, hasGrammar: boolean): MillraceError {
  if (state === 2 && hasGrammar) {
    return new MillraceError('GRAMMAR_TOO_LARGE', {
      message: 'The structured output cannot go on: no token of the vocabulary may follow, or too many readings are open.',
      param: 'structured_outputs',
    });
  }
  if (state === 2) {
    return new MillraceError('SAMPLING_PARAM_INVALID', {
      message: 'No token is left to sample: logit_bias, bad_words, allowed_token_ids, min_tokens and stop tokens forbid them all.',
      param: 'logit_bias',
    });
  }
  return new MillraceError('BACKEND_STEP_FAILED', {
    message: 'The model produced logits that are not numbers for this request.',
    hint: 'The weights or the number format (--dtype) may be broken; other requests are not affected.',
  });
}
