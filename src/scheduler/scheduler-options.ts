/** What a scheduler is made with, and what it counts. */
import type { KvCache } from '../kv/kv-cache.ts';
import type { SchedulingPolicy } from './policies/policy.ts';

export interface SchedulerOptions {
  readonly kv: KvCache;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly maxModelLen: number;
  /** Requests that may wait; more are refused. */
  readonly maxQueue: number;
  /** Milliseconds that a request may wait for its first step. Default: any number. */
  readonly maxQueueMs?: number;
  /** Unfinished requests (choices) of one tenant. Default: any number. */
  readonly maxTenantSeqs?: number;
  readonly policy?: SchedulingPolicy;
  /** Start requests only when all are expected to fit to their ends. Default: true. */
  readonly estimatePeak?: boolean;
  readonly watermark?: number;
  /** Draft tokens of a request at most. */
  readonly maxDraftTokens?: number;
  /** Steps that may be scheduled and not yet committed. */
  readonly maxInFlight?: number;
  /** Milliseconds between the tokens of an output that steps are kept short for. Default: steps take what fits them. */
  readonly targetItlMs?: number;
}

export interface SchedulerStats {
  numPreemptions: number;
  /** Of those, preemptions after which the blocks go to a tier when others need the room, since that costs less than computing them again. */
  numSwaps: number;
  prefixQueriedTokens: number;
  prefixHitTokens: number;
  /** Tokens that the device did not have when their request started, and those of them that tiers gave. */
  tierQueriedTokens: number;
  tierHitTokens: number;
}
