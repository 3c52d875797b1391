import type { Request } from '../request.ts';

/** Order in which requests wait, and the reverse of which they are preempted. */
export interface SchedulingPolicy {
  /** Negative when `a` goes before `b`. Must be a total order that does not change while they wait. */
  compare(a: Request, b: Request): number;
}

/** First come, first served: a preempted request keeps its place, so the oldest always wins and nothing is starved. */
export const fcfs: SchedulingPolicy = { compare: (a, b) => a.order - b.order };
