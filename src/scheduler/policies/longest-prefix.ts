import type { SchedulingPolicy } from './policy.ts';

/** Looking up a prefix costs a walk of the tree, for each waiting request in each step: beyond this many the oldest goes first. */
const MAX_LOOKUPS = 128;
/** Waiting a second counts as this many more cached tokens. */
const AGEING_TOKENS_PER_SECOND = 50;

/** Who finds most of its tokens in the prefix cache goes first, before they are evicted for others: fewer tokens are computed in all. */
export function longestPrefix(): SchedulingPolicy {
  return {
    reranks: 'step',
    rank: (request, view) => {
      const aged = ((view.nowMs - request.arrivalMs) / 1000) * AGEING_TOKENS_PER_SECOND;
      return -aged - (view.numWaiting > MAX_LOOKUPS ? 0 : view.cachedTokens(request));
    },
  };
}
