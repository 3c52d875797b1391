import type { SchedulingPolicy } from './policy.ts';

/** A request that names no deadline is treated as if it had this one. */
const IMPLIED_DEADLINE_MS = 60_000;
/** Who cannot be in time any more steps back by this much, for those that still can. */
const MISSED_STEP_BACK_MS = 10_000;

/** Earliest target of the first token first, or else earliest deadline: as many as possible are in time. */
export function deadline(): SchedulingPolicy {
  return {
    reranks: 'step',
    rank: (request, { nowMs }) => {
      const due = request.firstTokenDueMs ?? request.deadlineMs ?? request.arrivalMs + IMPLIED_DEADLINE_MS;
      return due >= nowMs || request.numOutputTokens > 0 ? due : due + MISSED_STEP_BACK_MS;
    },
  };
}
