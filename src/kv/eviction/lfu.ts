import type { EvictionPolicy } from './policy.ts';

/**
 * Least frequently used goes first, with dynamic ageing (LFU-DA: Arlitt et al., "Evaluating Content Management Techniques for Web Proxy Caches", 2000): a
 * use counts from the level of what was evicted last, so a prefix that was popular long ago does not stay for ever. For system prompts that many share
 * among floods of prompts that come once.
 */
export function lfu(): EvictionPolicy {
  let age = 0;
  return {
    key: ({ uses }) => age + uses,
    onEvicted: (key) => {
      age = Math.max(age, key);
    },
  };
}
