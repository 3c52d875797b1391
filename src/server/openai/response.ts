import type { MillraceError } from '../../base/errors.ts';
import type { GenerationChoice, GenerationDelta, GenerationResult, RequestTimings, Usage } from '../../engine/request-stream.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { ResponseShape } from './request.ts';

/** What every answer to one request repeats. */
export interface ResponseHead {
  readonly id: string;
  /** Unix seconds. */
  readonly created: number;
  /** The name that the client used. */
  readonly model: string;
  readonly systemFingerprint: string;
  readonly tokenizer: Tokenizer;
  readonly shape: ResponseShape;
}

/** One prompt of the request, admitted. */
export interface ResponseSource {
  readonly promptTokenIds: Int32Array;
  readonly seed: number;
  /** Index of this prompt's first choice in the answer: its position times `n`. */
  readonly firstIndex: number;
}

/** An endpoint's way of writing generations down. One per request. */
export interface ResponseFormat {
  /** The body of an answer that is not streamed; results in the order of the sources. */
  whole(results: readonly GenerationResult[]): object;
  /** Chunks that a delta of source `source` is sent as: none when it says nothing, two when a role opens the choice. */
  chunks(source: number, delta: GenerationDelta, usage: Usage): readonly object[];
  /** Chunks behind the last choice. */
  closing(usage: Usage, timings: RequestTimings): readonly object[];
  /** Chunks of a stream that failed, ahead of the error itself. */
  failing?(error: MillraceError): readonly object[];
}

export interface UsageBody {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
  /** Of chats. */
  readonly completion_tokens_details?: { readonly reasoning_tokens: number };
}

/** @param reasoningTokens of a chat; null where there is no such thing */
export function usageBody(usage: Usage, reasoningTokens: number | null = null): UsageBody {
  return {
    prompt_tokens: usage.promptTokens,
    completion_tokens: usage.completionTokens,
    total_tokens: usage.promptTokens + usage.completionTokens,
    prompt_tokens_details: { cached_tokens: usage.cachedTokens },
    ...(reasoningTokens === null ? {} : { completion_tokens_details: { reasoning_tokens: reasoningTokens } }),
  };
}

export function sumUsage(usages: readonly Usage[]): Usage {
  const sum = (field: keyof Usage) => usages.reduce((total, usage) => total + usage[field], 0);
  return { promptTokens: sum('promptTokens'), completionTokens: sum('completionTokens'), cachedTokens: sum('cachedTokens') };
}

/** Where the time went, in the words of llama.cpp's server: milliseconds, and tokens a second. The prompt's begins when it leaves the queue. */
export interface TimingsBody {
  readonly cache_n: number;
  readonly prompt_n: number;
  readonly prompt_ms: number;
  readonly prompt_per_second: number | null;
  readonly predicted_n: number;
  readonly predicted_ms: number;
  readonly predicted_per_second: number | null;
  readonly queue_ms: number;
}

export function timingsBody({ promptTokens, cachedTokens, completionTokens }: Usage, timings: RequestTimings): TimingsBody {
  const totalMs = timings.totalMs ?? 0;
  const firstTokenMs = timings.firstTokenMs ?? totalMs;
  const queueMs = timings.queueMs ?? 0;
  const promptMs = Math.max(0, firstTokenMs - queueMs);
  const predictedMs = Math.max(0, totalMs - firstTokenMs);
  const perSecond = (count: number, ms: number) => (ms > 0 ? (count * 1000) / ms : null);
  return {
    cache_n: cachedTokens,
    prompt_n: promptTokens - cachedTokens,
    prompt_ms: promptMs,
    prompt_per_second: perSecond(promptTokens - cachedTokens, promptMs),
    predicted_n: completionTokens,
    predicted_ms: predictedMs,
    predicted_per_second: perSecond(completionTokens, predictedMs),
    queue_ms: queueMs,
  };
}

/** Of prompts that ran beside each other: the slowest of each span. */
export function slowestTimings(results: readonly Pick<GenerationResult, 'timings'>[]): RequestTimings {
  const slowest = (span: keyof RequestTimings) => Math.max(0, ...results.map(({ timings }) => timings[span] ?? 0));
  return { queueMs: slowest('queueMs'), firstTokenMs: slowest('firstTokenMs'), totalMs: slowest('totalMs') };
}

/** Usage of a stream's chunks: `null` announces the last one, absent when nobody asked. */
export function chunkUsage(shape: ResponseShape, usage: Usage, reasoningTokens: number | null = null): { usage?: UsageBody | null } {
  if (shape.continuousUsage) return { usage: usageBody(usage, reasoningTokens) };
  return shape.includeUsage ? { usage: null } : {};
}

/** True when a delta carries nothing that the client would see. */
export function isSilent(delta: GenerationDelta, shape: ResponseShape): boolean {
  if (delta.text !== '' || delta.finishReason !== null || (delta.logprobs?.length ?? 0) > 0) return false;
  return !(shape.returnTokenIds && delta.tokenIds.length > 0);
}

/** The extensions that end a choice: what stopped it, and the seed that repeats it. */
export function endOfChoice(choice: GenerationChoice | GenerationDelta, seed: number): object {
  const beam = 'beam' in choice ? choice.beam : undefined;
  const scores = beam === undefined ? {} : { cumulative_logprob: beam.cumulativeLogprob, beam_score: beam.score };
  return { stop_reason: choice.stopReason, seed, ...scores };
}
