/** The engine's side of a `RequestStream`: what has been generated, and who waits for it. */
import { MillraceError } from '../base/errors.ts';
import type { MarkerPosition } from '../chat/output-parser.ts';
import type {
  Admission,
  BeamScore,
  FinishReason,
  GenerationChoice,
  GenerationDelta,
  GenerationResult,
  RequestStream,
  RequestTimings,
  TokenLogprob,
  Usage,
} from './request-stream.ts';

/**
 * One choice as it grows. What has not been read yet merges into one delta, so that a slow reader costs no more memory than the result itself.
 * Text lies apart as read and unread: slicing the end off one growing string would copy all of it each time.
 */
interface GrowingChoice {
  readonly readText: string[];
  unreadText: string;
  /** Units in `readText`. */
  readLength: number;
  /** Places in the whole text. */
  readonly markers: MarkerPosition[];
  readMarkers: number;
  readonly tokenIds: number[];
  readonly logprobs: TokenLogprob[] | null;
  finishReason: FinishReason | null;
  stopReason: string | number | null;
  readTokens: number;
  readEnd: boolean;
  beam: BeamScore | null;
}

/** A promise with its two ends, whose rejection may go unobserved: nobody has to await a stream. */
class Deferred<T> {
  readonly promise: Promise<T>;
  resolve: (value: T) => void = () => {};
  reject: (error: MillraceError) => void = () => {};

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => {});
  }
}

export class GenerationStream implements RequestStream {
  readonly requestId: string;
  readonly #admitted = new Deferred<Admission>();
  readonly #result = new Deferred<GenerationResult>();
  readonly #choices: GrowingChoice[] = [];
  #wantsPrompt = false;
  #promptLogprobs: (TokenLogprob | null)[] | null = null;
  /** More choices grow than will be kept. */
  #contest: { readonly numKept: number; readonly withLogprobs: boolean } | null = null;
  readonly #onAbort: (reason: MillraceError) => void;
  #admission: Admission | null = null;
  #usage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };
  #error: MillraceError | null = null;
  #isDone = false;
  #isIterated = false;
  /** The reader broke out of its loop. */
  #isLeft = false;
  /** Choice that is looked at first: each gets its turn. */
  #turn = 0;
  /** Wakes the one reader of deltas. */
  #wake: (() => void) | null = null;

  /** `onAbort` is called once, when the owner leaves before the end. */
  constructor(requestId: string, onAbort: (reason: MillraceError) => void) {
    this.requestId = requestId;
    this.#onAbort = onAbort;
  }

  get admitted(): Promise<Admission> {
    return this.#admitted.promise;
  }

  get usage(): Usage {
    return this.#usage;
  }

  /** Ended: finished, failed or aborted. */
  get isDone(): boolean {
    return this.#isDone;
  }

  get numUnfinishedChoices(): number {
    let count = 0;
    for (const choice of this.#choices) if (choice.finishReason === null) count++;
    return count;
  }

  // biome-ignore lint/suspicious/noThenProperty: a stream is awaitable by contract
  then<A = GenerationResult, B = never>(
    onFulfilled?: ((value: GenerationResult) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#result.promise.then(onFulfilled, onRejected);
  }

  abort(reason?: MillraceError): void {
    if (this.#isDone) return;
    const error = reason ?? new MillraceError('REQUEST_ABORTED', 'The request was aborted.');
    this.fail(error);
    this.#onAbort(error);
  }

  [Symbol.asyncIterator](): AsyncIterator<GenerationDelta> {
    if (this.#isIterated)
      throw new MillraceError('REQUEST_INVALID', 'The deltas of a stream can be iterated only once; await it for the whole result.');
    this.#isIterated = true;
    return {
      next: () => this.#nextDelta(),
      return: () => {
        this.#isLeft = true;
        this.abort();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }

  // --- the engine's side ---

  /** @param numGenerated choices that will be generated: of more than `numChoices`, the likeliest are kept, and nothing is given out before */
  admit(admission: Admission, numChoices: number, withLogprobs: boolean, numGenerated = numChoices, wantsPrompt = false): void {
    this.#wantsPrompt = wantsPrompt;
    if (numGenerated > numChoices) this.#contest = { numKept: numChoices, withLogprobs };
    this.#admission = admission;
    this.#usage.promptTokens = admission.promptTokenIds.length;
    for (let index = 0; index < numGenerated; index++) {
      this.#choices.push({
        readText: [],
        unreadText: '',
        readLength: 0,
        markers: [],
        readMarkers: 0,
        tokenIds: [],
        logprobs: withLogprobs || this.#contest !== null ? [] : null,
        finishReason: null,
        stopReason: null,
        readTokens: 0,
        readEnd: false,
        beam: null,
      });
    }
    this.#admitted.resolve(admission);
  }

  /** The log probability of a token of the prompt behind those before it. */
  notePrompt(index: number, logprob: TokenLogprob): void {
    this.#promptLogprobs ??= new Array<TokenLogprob | null>(this.#usage.promptTokens).fill(null);
    this.#promptLogprobs[index] = logprob;
  }

  countCached(cachedTokens: number): void {
    this.#usage.cachedTokens = cachedTokens;
  }

  /** One more token of a choice and the text that it completed, which may be none; a marker stands behind that text. */
  push(index: number, tokenId: number, text: string, logprob: TokenLogprob | null, isMarker = false): void {
    const choice = this.#choices[index];
    choice.tokenIds.push(tokenId);
    if (logprob !== null) choice.logprobs?.push(logprob);
    choice.unreadText += text;
    if (isMarker) choice.markers.push({ at: choice.readLength + choice.unreadText.length, tokenId });
    this.#usage.completionTokens++;
    this.#notify();
  }

  /** The end of a choice, with text that was held back until now. */
  finishChoice(index: number, text: string, finishReason: FinishReason, stopReason: string | number | null): void {
    const choice = this.#choices[index];
    choice.unreadText += text;
    choice.finishReason = finishReason;
    choice.stopReason = stopReason;
    this.#notify();
  }

  noteBeam(index: number, score: BeamScore): void {
    this.#choices[index].beam = score;
  }

  /** All choices have ended. */
  complete(timings: RequestTimings): void {
    if (this.#isDone || this.#admission === null) return;
    this.#isDone = true;
    this.#decide();
    this.#result.resolve({
      requestId: this.requestId,
      promptTokenIds: this.#admission.promptTokenIds,
      ...(this.#wantsPrompt ? { promptLogprobs: this.#promptLogprobs ?? [null] } : {}),
      choices: this.#choices.map(finishedChoice),
      usage: this.usage,
      timings,
    });
    this.#notify();
  }

  /** Keeps the choices with the highest log probability per token, best first; the earlier of equals. */
  #decide(): void {
    if (this.#contest === null) return;
    const { numKept, withLogprobs } = this.#contest;
    const ranked = this.#choices.map((choice) => ({ choice, mean: meanLogprob(choice) })).sort((a, b) => b.mean - a.mean);
    const kept = ranked.slice(0, numKept).map(({ choice }) => (withLogprobs ? choice : { ...choice, logprobs: null }));
    this.#choices.splice(0, this.#choices.length, ...kept);
    this.#contest = null;
  }

  fail(error: MillraceError): void {
    if (this.#isDone) return;
    this.#isDone = true;
    this.#error = error;
    this.#admitted.reject(error);
    this.#result.reject(error);
    this.#notify();
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  async #nextDelta(): Promise<IteratorResult<GenerationDelta>> {
    while (!this.#isLeft) {
      while (this.#contest !== null && !this.#isDone) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      if (this.#error !== null && this.#contest !== null) break;
      for (let i = 0; i < this.#choices.length; i++) {
        const delta = this.#takeDelta((this.#turn + i) % this.#choices.length);
        if (delta === null) continue;
        this.#turn = delta.index + 1;
        return { done: false, value: delta };
      }
      if (this.#isDone) break;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#error !== null && !this.#isLeft) {
      this.#isLeft = true;
      throw this.#error;
    }
    return { done: true, value: undefined };
  }

  #takeDelta(index: number): GenerationDelta | null {
    const choice = this.#choices[index];
    const { readTokens, readLength, unreadText: text } = choice;
    const ends = choice.finishReason !== null && !choice.readEnd;
    if (readTokens === choice.tokenIds.length && text.length === 0 && !ends) return null;
    const isFirst = readTokens === 0 && choice.readText.length === 0 && !choice.readEnd;
    choice.readTokens = choice.tokenIds.length;
    if (text.length > 0) choice.readText.push(text);
    choice.readLength += text.length;
    choice.unreadText = '';
    const markers = choice.markers.slice(choice.readMarkers).map(({ at, tokenId }) => ({ at: at - readLength, tokenId }));
    choice.readMarkers = choice.markers.length;
    choice.readEnd = ends || choice.readEnd;
    return {
      index,
      text,
      ...(markers.length === 0 ? {} : { markers }),
      tokenIds: choice.tokenIds.slice(readTokens),
      logprobs: choice.logprobs === null ? null : choice.logprobs.slice(readTokens),
      // the prompt is computed before anything is sampled
      ...(this.#wantsPrompt && isFirst ? { promptLogprobs: this.#promptLogprobs ?? [null] } : {}),
      finishReason: ends ? choice.finishReason : null,
      stopReason: ends ? choice.stopReason : null,
    };
  }
}

function meanLogprob({ logprobs }: GrowingChoice): number {
  if (logprobs === null || logprobs.length === 0) return -Infinity;
  return logprobs.reduce((sum, { logprob }) => sum + logprob, 0) / logprobs.length;
}

function finishedChoice(choice: GrowingChoice, index: number): GenerationChoice {
  return {
    index,
    text: choice.readText.join('') + choice.unreadText,
    ...(choice.markers.length === 0 ? {} : { markers: choice.markers }),
    tokenIds: choice.tokenIds,
    logprobs: choice.logprobs,
    finishReason: choice.finishReason ?? 'abort',
    stopReason: choice.stopReason,
    ...(choice.beam === null ? {} : { beam: choice.beam }),
  };
}
