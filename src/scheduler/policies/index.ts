import { fcfs, type SchedulingPolicy } from './fcfs.ts';

export type { SchedulingPolicy } from './fcfs.ts';

/** The table of policies: one row each. */
export const policies = { fcfs } as const satisfies Record<string, SchedulingPolicy>;

export type PolicyName = keyof typeof policies;
