import type { ChatMessage, ChatTemplateOptions } from '../chat/messages.ts';
import type { HeldCalls } from '../chat/output-outline.ts';
import type { TierStats } from '../kv/tiers/tier.ts';
import type { SamplingParams } from '../sampling/params.ts';
import type { PacingReport } from '../scheduler/pacing.ts';
import type { RequestReport } from '../scheduler/wait-reasons.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { LogitsProcessor, StopPredicate } from './logits-stage.ts';
import type { RequestStream } from './request-stream.ts';
import type { RequestKvCache } from './retention.ts';

export type { RequestReport } from '../scheduler/wait-reasons.ts';
export type { RequestKvCache } from './retention.ts';

/** What to continue. */
export type GenerateInput =
  | { readonly prompt: string; readonly addSpecialTokens?: boolean }
  | { readonly promptTokenIds: ArrayLike<number> }
  | { readonly messages: readonly ChatMessage[]; readonly template?: ChatTemplateOptions };

export interface GenerateOptions {
  readonly signal?: AbortSignal;
  /** Names the request in logs, metrics and responses; drawn when absent. */
  readonly requestId?: string;
  /** Lower starts first, under the scheduling policy `priority`; an integer, default 0. */
  readonly priority?: number | undefined;
  /** Whom it counts for, under the policy `fair` and the limit per tenant. */
  readonly tenant?: string | undefined;
  /** Only requests with an equal one share prefixes in the KV cache: a tenant's secret keeps others from finding out what it has asked. */
  readonly cacheSalt?: string | undefined;
  /** Lossy: the request does not keep all of its keys. Nothing of it is shared or remembered. */
  readonly kvCache?: RequestKvCache | undefined;
  /** Milliseconds from now after which it is ended with DEADLINE_EXCEEDED, wherever it stands. */
  readonly deadlineMs?: number | undefined;
  /** Milliseconds from now by which the first token is wanted: the policy `deadline` goes by it. */
  readonly targetFirstTokenMs?: number | undefined;
  /**
   * Tokens that are told apart from text, such as the tags of tool calls: a delta names their places, its text leaves them out. No stop
   * string reaches across one.
   */
  readonly markerTokenIds?: ReadonlySet<number>;
  /** Tools whose calls are held to the syntax of their format and to their schemas. */
  readonly calls?: HeldCalls | undefined;
  /** Change the logits of each place, in this order, before anything else of sampling. */
  readonly logitsProcessors?: readonly LogitsProcessor[] | undefined;
  /** Ends a choice behind the token after which it first says true; the token and its text are part of the output. */
  readonly stopWhen?: StopPredicate | undefined;
}

export interface OutputFormatNames {
  readonly toolCalls: string | null;
  readonly reasoning: string | null;
  /** The model thinks when a request asks for it and not otherwise, as its chat template has it; absent: no. */
  readonly thinksOnRequest?: boolean;
}

/** The loaded model, for `/v1/models`, `inspect` and the start banner. */
export interface ModelInfo {
  /** Names that it answers to; the first is the canonical one. */
  readonly servedNames: readonly string[];
  readonly path: string;
  readonly architecture: string;
  readonly numParameters: number;
  readonly vocabSize: number;
  /** Longest prompt plus output, in tokens. */
  readonly maxModelLen: number;
  readonly hasChatTemplate: boolean;
  /** How the model writes tool calls and reasoning: names of `chat/tool-calls` and `chat/reasoning`; null where it does not, or nobody knows. */
  readonly outputFormats?: OutputFormatNames;
  /** A line to show to people when the model is a demonstration only. */
  readonly notice: string | null;
}

/** How many of something were of which size. */
export interface SizeCounts {
  /** Ascending. */
  readonly bounds: readonly number[];
  /** `[bounds.length + 1]`: how many were at most each bound and above the one before; the last is above all. The engine goes on counting in it. */
  readonly counts: Float64Array;
  /** Of all sizes. */
  readonly sum: number;
}

/** One reading of the engine's gauges and counters; counters only grow. */
export interface EngineStats {
  readonly numRunning: number;
  readonly numWaiting: number;
  readonly kvBlocksTotal: number;
  /** Held by running requests. */
  readonly kvBlocksReferenced: number;
  /** Held by the prefix cache alone; evictable. */
  readonly kvBlocksCached: number;
  readonly promptTokens: number;
  readonly generationTokens: number;
  readonly prefixCacheQueriedTokens: number;
  readonly prefixCacheHitTokens: number;
  /** Prompt tokens copied from the heads of blocks that others had computed. */
  readonly copiedTokens: number;
  /** Blocks of remembered prefixes that were forgotten. */
  readonly kvBlocksEvicted: number;
  /** Tokens that the device did not have and tiers were asked for, and those that they gave. */
  readonly tierQueriedTokens: number;
  readonly tierHitTokens: number;
  /** What each tier holds and has done; empty without tiers. */
  readonly tiers: readonly TierStats[];
  readonly numPreemptions: number;
  /** Of those, preemptions after which blocks went to a tier instead of being computed again. */
  readonly numSwaps: number;
  /** Generated tokens that a grammar forced and that took no step of their own. */
  readonly jumpForwardTokens: number;
  readonly numSteps: number;
  /** Steps by the tokens that they computed, of prompts and new ones together. */
  readonly stepTokens: SizeCounts;
  /** JavaScript time of the last step: schedule + fill + output, milliseconds. */
  readonly lastStepHostMs: number;
  /** What `--target-itl-ms` goes by; null without it. */
  readonly pacing: PacingReport | null;
  /** Milliseconds since a step last finished or the engine was last idle: health means progress. */
  readonly sinceProgressMs: number;
  readonly oldestWaitingMs: number;
}

/** What the server, the CLI and the library see of an engine. `LoadedEngine` (load.ts) is the real one; tests may fake it. */
export interface Engine extends AsyncDisposable {
  readonly model: ModelInfo;
  readonly tokenizer: Tokenizer;
  /** Resolved configuration with the reason for each `auto`, for `inspect` and the log. */
  readonly config: { readonly values: Readonly<Record<string, unknown>>; readonly reasons: readonly string[] };
  /** Returns at once; `stream.admitted` says whether the request was taken. */
  generate(input: GenerateInput, params?: SamplingParams, options?: GenerateOptions): RequestStream;
  /** Ids of a chat prompt, for `/tokenize`. */
  renderChat(messages: readonly ChatMessage[], options?: ChatTemplateOptions): Promise<{ text: string; tokenIds: Int32Array }>;
  stats(): EngineStats;
  /** Every request that has not ended, and why those that wait do. For administrators. */
  requests(): readonly RequestReport[];
  /** Switches the order in which requests start, at once and for those that wait too. @throws REQUEST_INVALID for a policy that there is not */
  useSchedulingPolicy(name: string): void;
  /** Subscribes to finished requests, for metrics. Returns the unsubscribe function. */
  onFinished(listener: (event: FinishedRequest) => void): () => void;
  /** Aborts what runs and frees everything. Idempotent. */
  close(): Promise<void>;
}

/** One request that ended, as metrics see it. Times in milliseconds. */
export interface FinishedRequest {
  readonly requestId: string;
  readonly finishReason: 'stop' | 'length' | 'abort' | 'error';
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly generationTokens: number;
  readonly queueMs: number;
  readonly firstTokenMs: number | null;
  readonly totalMs: number;
  /** Gaps between tokens, one an output token after the first. */
  readonly interTokenMs: Float64Array;
}
