import type { SchedulingPolicy } from './policy.ts';

/** First come, first served: a preempted request keeps its place, so the oldest always wins and nothing is starved. */
export function fcfs(): SchedulingPolicy {
  return { reranks: 'never', rank: ({ order }) => order };
}
