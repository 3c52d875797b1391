import type { Request } from '../request.ts';
import type { SchedulingPolicy } from './policy.ts';

/** What a token costs its tenant: outputs take a step each, prompt tokens share steps. */
const PROMPT_TOKEN_COST = 1;
const OUTPUT_TOKEN_COST = 2;
/** Idle tenants whose counters are kept at most. */
const MAX_IDLE_TENANTS = 4096;

interface Tenant {
  /** Cost of the service that it has had. */
  counter: number;
  numUnfinished: number;
}

/**
 * A virtual token counter per tenant (Sheng et al., "Fairness in Serving Large Language Models", 2024): the tenant that has had least goes first,
 * each tenant's own requests by arrival. A tenant that was idle starts at the least counter of the active ones, so that idleness saves nothing up.
 * What is computed again after a preemption costs nothing: it was not the tenant's doing.
 */
export function fair(): SchedulingPolicy {
  const tenants = new Map<string, Tenant>();

  const leastActive = () => {
    let least = Infinity;
    for (const { counter, numUnfinished } of tenants.values()) if (numUnfinished > 0) least = Math.min(least, counter);
    return least === Infinity ? 0 : least;
  };

  const forgetIdle = () => {
    if (tenants.size <= MAX_IDLE_TENANTS) return;
    for (const [name, { numUnfinished }] of tenants) {
      if (numUnfinished === 0) tenants.delete(name);
      if (tenants.size <= MAX_IDLE_TENANTS / 2) return;
    }
  };

  const tenantOf = ({ tenant: name }: Request): Tenant => {
    let tenant = tenants.get(name);
    if (tenant === undefined) {
      tenant = { counter: 0, numUnfinished: 0 };
      tenants.set(name, tenant);
    }
    return tenant;
  };

  return {
    reranks: 'admission',
    rank: (request) => tenantOf(request).counter,
    onArrival(request) {
      const tenant = tenantOf(request);
      if (tenant.numUnfinished === 0) tenant.counter = Math.max(tenant.counter, leastActive());
      tenant.numUnfinished++;
    },
    onScheduled(request, firstToken, numNewTokens) {
      const end = firstToken + numNewTokens;
      const first = Math.max(firstToken, request.numChargedTokens);
      if (end <= first) return;
      const numPrompt = Math.max(0, Math.min(end, request.numPromptTokens) - first);
      tenantOf(request).counter += numPrompt * PROMPT_TOKEN_COST + (end - first - numPrompt) * OUTPUT_TOKEN_COST;
      request.numChargedTokens = end;
    },
    onEnded(request) {
      tenantOf(request).numUnfinished--;
      forgetIdle();
    },
  };
}
