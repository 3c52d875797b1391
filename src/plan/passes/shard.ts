/** Cuts a plan for one rank of a tensor-parallel group (S5): the only place that inserts collectives. */
import { MillraceError } from '../../base/errors.ts';
import type { Plan } from '../plan.ts';

export interface ShardOptions {
  readonly worldSize: number;
  readonly rank: number;
}

/**
 * The plan of one rank. At world size 1 that is the plan itself; larger worlds are not built yet.
 * @throws CONFIG_INVALID
 */
export function shardPlan(plan: Plan, { worldSize, rank }: ShardOptions): Plan {
  if (worldSize !== 1) {
    throw new MillraceError('CONFIG_INVALID', {
      message: 'Tensor parallelism is not available yet.',
      expected: 'a world size of 1',
      received: String(worldSize),
      hint: 'Run one process per model, or several behind a router.',
    });
  }
  if (rank !== 0)
    throw new MillraceError('CONFIG_INVALID', { message: 'A world of one has no such rank.', expected: 'rank 0', received: String(rank) });
  return plan;
}
