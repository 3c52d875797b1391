/** One choice of one generation as the scheduler sees it: tokens, counters, blocks. No text, no tensor, no clock. */
import type { MillraceError } from '../base/errors.ts';
import type { KvSequence } from '../kv/sequence.ts';
import type { ResolvedSamplingParams } from '../sampling/params.ts';

/** `waiting` includes preempted requests; `finished` covers every end. */
export type RequestStatus = 'waiting' | 'running' | 'finished';

export interface RequestOptions {
  readonly id: string;
  readonly promptTokenIds: Int32Array;
  readonly params: ResolvedSamplingParams;
  /** Index among the `n` choices of a generation. */
  readonly choice?: number;
  /** Choice 0 of the same generation, whose prompt this one shares. */
  readonly sibling?: Request;
  /** Namespace of the prefix cache: only equal ones share. */
  readonly cacheSalt?: string;
  readonly arrivalMs: number;
}

/** The counters are written by the scheduler only. */
export class Request {
  readonly id: string;
  readonly params: ResolvedSamplingParams;
  readonly choice: number;
  readonly sibling: Request | null;
  readonly cacheSalt: string;
  readonly arrivalMs: number;
  readonly numPromptTokens: number;
  /** Order of arrival, given by the scheduler; lower is older. */
  order = -1;
  status: RequestStatus = 'waiting';
  /** Prompt and generated tokens `[numTokens]`; the array is longer. */
  tokenIds: Int32Array;
  numTokens: number;
  /** Tokens whose K and V are in the cache and confirmed. */
  numComputedTokens = 0;
  /** Proposed continuations, not yet verified. */
  readonly draftTokenIds: Int32Array;
  numDraftTokens = 0;
  /** Blocks held; null while waiting. */
  sequence: KvSequence | null = null;
  /** Prompt tokens that the first admission took from the prefix cache. */
  numCachedTokens = 0;
  numPreemptions = 0;
  /** When it first ran, or null. */
  scheduledMs: number | null = null;
  /** Why it failed, if it did. */
  error: MillraceError | null = null;
  /** Links of the waiting queue. */
  previous: Request | null = null;
  next: Request | null = null;

  constructor(options: RequestOptions, maxDraftTokens = 0) {
    this.id = options.id;
    this.params = options.params;
    this.choice = options.choice ?? 0;
    this.sibling = options.sibling ?? null;
    this.cacheSalt = options.cacheSalt ?? '';
    this.arrivalMs = options.arrivalMs;
    this.numPromptTokens = options.promptTokenIds.length;
    this.numTokens = this.numPromptTokens;
    // a small start: max_tokens is often a safety cap in the tens of thousands
    this.tokenIds = new Int32Array(this.numPromptTokens + Math.min(options.params.maxTokens, 64));
    this.tokenIds.set(options.promptTokenIds);
    this.draftTokenIds = new Int32Array(maxDraftTokens);
  }

  get numOutputTokens(): number {
    return this.numTokens - this.numPromptTokens;
  }

  /** The one counter: tokens that this request is behind. */
  get numBehind(): number {
    return this.numTokens + this.numDraftTokens - this.numComputedTokens;
  }

  /** Longest that the sequence may become. */
  get maxNumTokens(): number {
    return this.numPromptTokens + this.params.maxTokens;
  }

  append(tokenId: number): void {
    if (this.numTokens === this.tokenIds.length) {
      const longer = new Int32Array(Math.min(this.maxNumTokens, this.numTokens * 2) + 1);
      longer.set(this.tokenIds);
      this.tokenIds = longer;
    }
    this.tokenIds[this.numTokens++] = tokenId;
  }
}
