/** Who waits, in the order of the policy, and why. */
import type { PolicyView, SchedulingPolicy } from './policies/policy.ts';
import type { Request } from './request.ts';
import { RequestQueue } from './request-queue.ts';
import type { WaitReason } from './wait-reasons.ts';

export class WaitingLine extends RequestQueue {
  readonly #view: PolicyView;
  #policy: SchedulingPolicy;

  constructor(policy: SchedulingPolicy, view: PolicyView) {
    super();
    this.#policy = policy;
    this.#view = view;
  }

  get policy(): SchedulingPolicy {
    return this.#policy;
  }

  /** The one that came first, wherever it stands, or null. */
  get oldest(): Request | null {
    let oldest = this.first;
    for (let at = oldest; at !== null && oldest !== null; at = at.next) if (at.order < oldest.order) oldest = at;
    return oldest;
  }

  /** Changes the order for everybody unfinished, those who run included. */
  use(policy: SchedulingPolicy, unfinished: readonly Request[]): void {
    this.#policy = policy;
    const leaderOf = (request: Request) => request.beams?.leader ?? request;
    for (const request of unfinished) if (leaderOf(request) === request) policy.onArrival?.(request);
    for (const request of unfinished) if (leaderOf(request) === request) request.rank = policy.rank(request, this.#view);
    for (const request of unfinished) request.rank = leaderOf(request).rank;
    this.sort();
  }

  enter(request: Request): void {
    request.rank = this.#policy.rank(request, this.#view);
    this.insertByRank(request);
  }

  /** The head of the line, ranked anew if the policy wants it. */
  rankedFirst(): Request | null {
    if (this.#policy.reranks !== 'never' && this.size > 1) {
      for (let request = this.first; request !== null; request = request.next) request.rank = this.#policy.rank(request, this.#view);
      this.sort();
    }
    return this.first;
  }

  /** Notes why each waits: the first that was not passed over for the reason given, those after it because they are behind. */
  noteReasons(reason: WaitReason): void {
    let next = reason;
    for (let request = this.first; request !== null; request = request.next) {
      const isPassedOver = reason !== 'preemption' && (request.waitReason === 'sibling' || request.waitReason === 'prefix');
      if (isPassedOver && next === reason) continue;
      request.waitReason = next;
      next = 'behind';
    }
  }
}
