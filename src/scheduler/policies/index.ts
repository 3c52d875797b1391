import { deadline } from './deadline.ts';
import { fair } from './fair.ts';
import { fcfs } from './fcfs.ts';
import { longestPrefix } from './longest-prefix.ts';
import type { SchedulingPolicy } from './policy.ts';
import { priority } from './priority.ts';
import { shortestFirst } from './shortest-first.ts';

export type { SchedulingPolicy } from './policy.ts';

/** The table of policies: one row each. A call makes one with its own state. */
export const policies = {
  fcfs,
  priority,
  'longest-prefix': longestPrefix,
  'shortest-first': shortestFirst,
  deadline,
  fair,
} as const satisfies Record<string, () => SchedulingPolicy>;

export type PolicyName = keyof typeof policies;
