import type { MillraceError } from '../base/errors.ts';
import type { MarkerPosition } from '../chat/output-parser.ts';

/** Why a choice ended. `stop`: end token, stop string or stop id; `length`: max tokens or context; `abort`: its owner left. */
export type FinishReason = 'stop' | 'length' | 'abort' | 'error';

export interface TokenLogprob {
  readonly tokenId: number;
  readonly logprob: number;
  /** Alternatives, best first. */
  readonly top: readonly { readonly tokenId: number; readonly logprob: number }[];
  /** Of a token of the prompt: 1 for the likeliest at its place; null where nobody counted. Absent in the output. */
  readonly rank?: number | null;
  /** Of the ids of `logprobTokenIds`, in their order; absent when none were asked for. */
  readonly wanted?: readonly { readonly tokenId: number; readonly logprob: number }[];
}

/** Something new in one choice. Deltas of one choice, joined, are its text. */
export interface GenerationDelta {
  readonly index: number;
  readonly text: string;
  /** Tokens of `markerTokenIds` and their places in `text`; absent when there are none. */
  readonly markers?: readonly MarkerPosition[];
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly TokenLogprob[] | null;
  /** On the first delta of the choice, with `promptLogprobs`: as of `GenerationResult`. */
  readonly promptLogprobs?: readonly (TokenLogprob | null)[];
  /** Set on the last delta of the choice. */
  readonly finishReason: FinishReason | null;
  /** The stop string or token id that ended it. */
  readonly stopReason: string | number | null;
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens taken from the prefix cache. */
  readonly cachedTokens: number;
}

/** What is known once the request is admitted: a 200 may be sent. */
export interface Admission {
  readonly requestId: string;
  readonly promptTokenIds: Int32Array;
  /** After clamping to the context. */
  readonly maxTokens: number;
  readonly seed: number;
}

/** What a beam search says of a hypothesis: the sum of its tokens' log probabilities, and that divided by its length to the length penalty. */
export interface BeamScore {
  readonly cumulativeLogprob: number;
  readonly score: number;
}

export interface GenerationChoice {
  readonly index: number;
  /** Of a beam search; choices stand by score, the best first. */
  readonly beam?: BeamScore;
  readonly text: string;
  readonly markers?: readonly MarkerPosition[];
  readonly tokenIds: readonly number[];
  readonly logprobs: readonly TokenLogprob[] | null;
  readonly finishReason: FinishReason;
  readonly stopReason: string | number | null;
}

export interface GenerationResult {
  readonly requestId: string;
  readonly promptTokenIds: Int32Array;
  /** With `promptLogprobs`: one a token of the prompt, null for the first, which follows nothing. */
  readonly promptLogprobs?: readonly (TokenLogprob | null)[];
  readonly choices: readonly GenerationChoice[];
  readonly usage: Usage;
  readonly timings: RequestTimings;
}

/** Milliseconds from arrival; null where not reached. */
export interface RequestTimings {
  readonly queueMs: number | null;
  readonly firstTokenMs: number | null;
  readonly totalMs: number | null;
}

/**
 * A running generation: await it for the whole result, or iterate it for deltas (once). Leaving the loop early aborts the request and
 * frees its blocks at the next step.
 */
export interface RequestStream extends PromiseLike<GenerationResult>, AsyncIterable<GenerationDelta> {
  /** Resolves when admitted; rejects with a MillraceError while a 4xx can still be answered. */
  readonly admitted: Promise<Admission>;
  /** Idempotent, legal at any time. */
  abort(reason?: MillraceError): void;
  /** Usage so far; final after the last delta. */
  readonly usage: Usage;
}
