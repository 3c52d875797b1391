/** What a scheduling policy is: a rank for each waiting request. Who runs, runs on; a policy decides who starts next and who gives way first. */
import type { Request } from '../request.ts';

/** What a policy may look at besides the request itself. */
export interface PolicyView {
  readonly nowMs: number;
  readonly numWaiting: number;
  /** Tokens of the request that the prefix cache holds now. Costs a walk of the tree. */
  cachedTokens(request: Request): number;
  /** Output tokens still to come, from the lengths of earlier outputs and `maxTokens`. */
  predictedRemainingTokens(request: Request): number;
  /** Most tokens in a step. */
  readonly maxNumBatchedTokens: number;
}

/**
 * One instance belongs to one scheduler and may keep state. Every policy must let each request come first at last, whatever else arrives: ranks
 * that other requests can always undercut need ageing.
 */
export interface SchedulingPolicy {
  /** When ranks change: never while a request waits, from step to step, or even when another request starts. */
  readonly reranks: 'never' | 'step' | 'admission';
  /** Lower goes first; equal ranks go by arrival. A running request keeps the rank that it started with: the highest is preempted first. */
  rank(request: Request, view: PolicyView): number;
  /** The request has come. Also told of all that are there when the policy is switched to. */
  onArrival?(request: Request): void;
  /** A step will compute the request's tokens `[firstToken, firstToken + numNewTokens)`. */
  onScheduled?(request: Request, firstToken: number, numNewTokens: number): void;
  onEnded?(request: Request): void;
}

/** Before: lower rank, then older. */
export function compareRanks(a: Request, b: Request): number {
  return a.rank - b.rank || a.order - b.order;
}
