/** One choice of one generation as the scheduler sees it: tokens, counters, blocks. No text, no tensor, no clock. */
import type { MillraceError } from '../base/errors.ts';
import type { RetentionPolicy } from '../kv/retention.ts';
import type { KvSequence } from '../kv/sequence.ts';
import type { ResolvedSamplingParams } from '../sampling/params.ts';
import type { BeamGroup } from './beam-group.ts';
import type { WaitReason } from './wait-reasons.ts';

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
  /** Lower goes first, under the policy `priority`. Default 0. */
  readonly priority?: number;
  /** Whom the policy `fair` and the limit per tenant count it for. */
  readonly tenant?: string;
  /** When it is ended, finished or not; on the scheduler's clock. */
  readonly deadlineMs?: number | null;
  /** When its first token should be there, for the policy `deadline`; on the scheduler's clock. */
  readonly firstTokenDueMs?: number | null;
  /** Which of its tokens stay in the cache, where not all do: it then shares with nobody. */
  readonly retention?: RetentionPolicy | null;
}

/** The counters are written by the scheduler only. */
export class Request {
  readonly id: string;
  readonly params: ResolvedSamplingParams;
  readonly choice: number;
  readonly sibling: Request | null;
  readonly cacheSalt: string;
  readonly arrivalMs: number;
  readonly priority: number;
  readonly tenant: string;
  readonly deadlineMs: number | null;
  readonly firstTokenDueMs: number | null;
  readonly retention: RetentionPolicy | null;
  readonly numPromptTokens: number;
  /** Order of arrival, given by the scheduler; lower is older. */
  order = -1;
  /** Given by the policy; lower goes first. */
  rank = 0;
  /** Tokens from the start that a tenant has been charged for. */
  numChargedTokens = 0;
  /** Tokens that its start took from others' blocks. */
  numSharedTokens = 0;
  status: RequestStatus = 'waiting';
  /** Prompt and generated tokens `[numTokens]`; the array is longer. */
  tokenIds: Int32Array;
  numTokens: number;
  /** Tokens whose K and V are in the cache and confirmed. */
  numComputedTokens = 0;
  /** Tokens that steps in flight compute: scheduled, not yet confirmed. */
  numInFlightTokens = 0;
  /** Samples that steps in flight will bring; the token after them may already be asked for, with the sample standing for its id (S2). */
  numPendingTokens = 0;
  /** Logit row, in the last step scheduled, of the newest pending sample. */
  pendingLogitRow = -1;
  /** Its next sample depends on the ids of all before it (penalties, grammar): no step is scheduled for it while one is pending. */
  waitsForSample = false;
  /** The logits of its prompt are wanted, place by place: it takes no prefix from others, since what is not computed has none. */
  wantsPromptRows = false;
  /** The beam search that it belongs to: its tokens come from `BeamGroup.advance`. Set by that group. */
  beams: BeamGroup | null = null;
  /** Proposed continuations, not yet verified. */
  readonly draftTokenIds: Int32Array;
  numDraftTokens = 0;
  /** Tiers are being asked for blocks of it: it runs, and computes nothing until they have come. */
  isLoading = false;
  /** Tells its loads apart. */
  loadId = 0;
  /** Blocks held; null while waiting. */
  sequence: KvSequence | null = null;
  /** Prompt tokens that the first admission took from the prefix cache. */
  numCachedTokens = 0;
  numPreemptions = 0;
  /** When it first ran, or null. */
  scheduledMs: number | null = null;
  /** Why the last look at the waiting line did not start it. */
  waitReason: WaitReason = 'new';
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
    this.priority = options.priority ?? 0;
    this.tenant = options.tenant ?? '';
    this.deadlineMs = options.deadlineMs ?? null;
    this.firstTokenDueMs = options.firstTokenDueMs ?? null;
    this.retention = options.retention ?? null;
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
    return this.numTokens + this.numPendingTokens + this.numDraftTokens - this.numScheduledTokens;
  }

  /** Tokens computed or being computed: the next step goes on from here. */
  get numScheduledTokens(): number {
    return this.numComputedTokens + this.numInFlightTokens;
  }

  /** Whether a step scheduled now, before those in flight have ended, must leave it out. */
  get mustWaitForSample(): boolean {
    if (this.numPendingTokens === 0) return false;
    return this.waitsForSample || this.draftTokenIds.length > 0 || this.numOutputTokens + this.numPendingTokens >= this.params.maxTokens;
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

  /** Takes over the tokens of a request of the same prompt, and where it stands. */
  continueAs(other: Request): void {
    if (this.tokenIds.length < other.numTokens + 1) this.tokenIds = new Int32Array(other.tokenIds.length + 1);
    this.tokenIds.set(other.tokenIds.subarray(0, other.numTokens));
    this.numTokens = other.numTokens;
    this.numComputedTokens = other.numComputedTokens;
    this.numSharedTokens = other.numComputedTokens;
    this.numChargedTokens = other.numChargedTokens;
    this.scheduledMs = other.scheduledMs;
    this.rank = other.rank;
  }
}
