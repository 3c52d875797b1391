import { lfu } from './lfu.ts';
import { lru } from './lru.ts';
import type { EvictionPolicy } from './policy.ts';
import { priority } from './priority.ts';
import { ttl } from './ttl.ts';

export type { EvictionPolicy } from './policy.ts';

/** The table of eviction policies: one row each. A call makes one with its own state. */
export const evictionPolicies = { lru, lfu, priority, ttl } as const satisfies Record<
  string,
  (options: { readonly ttlMs: number }) => EvictionPolicy
>;

export type EvictionPolicyName = keyof typeof evictionPolicies;
