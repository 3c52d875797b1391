import { count, firstComplaint } from './checks.ts';
import type { OpDefinition, VerifiedNode } from './op.ts';

/**
 * Collectives (S5): how ranks of one plan exchange rows. At world size 1 each is the identity. The shard pass inserts them; models never do.
 * `all-reduce` sums in rank order, so the result does not depend on arrival.
 */
export interface CollectiveAttrs {
  /** The other rank, for `send` and `recv`; 0 otherwise. */
  peer: number;
}

function verify({ inputs, outputs, attrs, plan }: VerifiedNode<CollectiveAttrs>): string | null {
  return firstComplaint(
    count('inputs', inputs, 1),
    count('outputs', outputs, 1),
    inputs[0].axis === outputs[0].axis ? null : 'a collective keeps the axis',
    attrs.peer >= 0 && attrs.peer < plan.worldSize ? null : `peer ${attrs.peer} is outside a world of ${plan.worldSize}`,
  );
}

const collective: OpDefinition<CollectiveAttrs> = { attrs: { peer: 'int' }, verify };

export const allReduce = collective;
export const allGather = collective;
export const allToAll = collective;
export const send = collective;
export const recv = collective;
