/** Whether there is room: blocks that sequences need beside those that there are. */
import { NO_BLOCK } from './block-pool.ts';
import { blocksForTokens, isState, keepsAll, peakBlocks } from './layout.ts';
import type { PrefixMemory } from './prefix-memory.ts';
import { blocksHeld, type RetentionPolicy } from './retention.ts';
import type { KvSequence } from './sequence.ts';

/** Of the group that has least. */
export interface Capacity {
  readonly neededBlocks: number;
  readonly totalBlocks: number;
  readonly fits: boolean;
}

/** Blocks that some group lacks before a sequence could hold `numTokens`, advancing by at most `chunk` a step, `spare` kept besides; 0 when it could now. */
export function shortageOf(memory: PrefixMemory, sequence: KvSequence, numComputed: number, numTokens: number, chunk: number, spare: number): number {
  const { groups, blockSize, pools } = memory;
  const { retention } = sequence;
  let worst = 0;
  for (let g = 0; g < groups.length; g++) {
    let wanted: number;
    if (retention !== null) wanted = blocksHeld(retention.policy, retention, numTokens, blockSize) - sequence.numBlocks + spare;
    else if (isState(groups[g])) wanted = sequence.states[g] === NO_BLOCK ? 1 : 0;
    else {
      const held = sequence.numBlocks - Math.max(sequence.firstHeld[g], memory.firstNeeded(g, numComputed));
      const atMost = peakBlocks(groups[g], blockSize, numTokens, chunk) - held;
      wanted = Math.min(blocksForTokens(numTokens, blockSize) - sequence.numBlocks, atMost) + spare;
    }
    worst = Math.max(worst, wanted - pools[g].numAvailable);
  }
  return worst;
}

export interface CapacityQuestion {
  readonly numTokens: number;
  readonly chunk: number;
  readonly numRows: number;
  readonly numShared: number;
  readonly policy: RetentionPolicy | null;
}

/** Blocks for `numRows` sequences of `numTokens`, which share the first `numShared` where every group keeps all, beside those that exist. */
export function capacityOf({ groups, blockSize }: PrefixMemory, { numTokens, chunk, numRows, numShared, policy }: CapacityQuestion): Capacity {
  let answer = { neededBlocks: 0, totalBlocks: 0, fits: true };
  const sharedBlocks = policy === null && groups.every(keepsAll) ? Math.floor(numShared / blockSize) : 0;
  for (const [g, group] of groups.entries()) {
    const peak = policy === null ? peakBlocks(group, blockSize, numTokens, chunk) : blocksHeld(policy, null, numTokens, blockSize);
    const neededBlocks = sharedBlocks + numRows * (peak - sharedBlocks);
    const totalBlocks = group.numBlocks;
    if (g === 0 || neededBlocks - totalBlocks > answer.neededBlocks - answer.totalBlocks) {
      answer = { neededBlocks, totalBlocks, fits: neededBlocks <= totalBlocks };
    }
  }
  return answer;
}
