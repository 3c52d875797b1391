import type { SchedulingPolicy } from './policy.ts';

/** Waiting a second counts as this many steps less to do. */
const AGEING_STEPS_PER_SECOND = 20;

/** Who is expected to need the fewest steps goes first: the mean time to the end is then least. Outputs are predicted from earlier ones. */
export function shortestFirst(): SchedulingPolicy {
  return {
    reranks: 'step',
    rank: (request, view) => {
      const steps = request.numBehind / view.maxNumBatchedTokens + view.predictedRemainingTokens(request);
      return steps - ((view.nowMs - request.arrivalMs) / 1000) * AGEING_STEPS_PER_SECOND;
    },
  };
}
