import type { EvictionPolicy } from './policy.ts';

/** A level of priority counts as so much more recent a use: nothing stays for ever. */
const LEVEL_MS = 600_000;

/** As `lru`, but what requests of a more urgent `priority` have used counts as used ten minutes later a level. */
export function priority(): EvictionPolicy {
  return { key: (use) => use.nowMs - use.priority * LEVEL_MS };
}
