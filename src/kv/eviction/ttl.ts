import type { EvictionPolicy } from './policy.ts';

/** As `lru`, and what nobody has used for so long is forgotten even when there is room: no prompt is kept longer than promised. */
export function ttl({ ttlMs }: { readonly ttlMs: number }): EvictionPolicy {
  return { key: ({ nowMs }) => nowMs, expiredKey: (nowMs) => nowMs - ttlMs };
}
