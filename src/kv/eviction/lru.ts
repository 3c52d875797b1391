import type { EvictionPolicy } from './policy.ts';

/** Least recently used goes first: conversations that go on keep their history. */
export function lru(): EvictionPolicy {
  return { key: ({ tick }) => tick };
}
