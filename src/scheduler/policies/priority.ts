import type { SchedulingPolicy } from './policy.ts';

/** Waiting this long counts as one level of priority. */
export const AGEING_MS = 10_000;

/** The lowest `priority` first. Waiting raises a request level by level, so that the least important one comes at last. */
export function priority(): SchedulingPolicy {
  return { reranks: 'step', rank: (request, { nowMs }) => request.priority - Math.floor((nowMs - request.arrivalMs) / AGEING_MS) };
}
