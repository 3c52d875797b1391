/** The invariant of the KV cache: free + cached + referenced = total, every reference has a holder, and tree and pools agree. For tests. */
import { invariant } from '../base/errors.ts';
import { NO_BLOCK, NO_NODE } from './block-pool.ts';
import { keepsAll } from './layout.ts';
import type { PrefixMemory } from './prefix-memory.ts';
import type { KvSequence } from './sequence.ts';

/** Compares every count with the holders given, who must be all. @throws INTERNAL */
export function checkBlocks(memory: PrefixMemory, sequences: Iterable<KvSequence>): void {
  const { pools, groups } = memory;
  const holders = pools.map((pool) => new Int32Array(pool.numBlocks));
  for (const sequence of sequences) {
    for (let g = 0; g < groups.length; g++) {
      for (let i = 0; i < sequence.numBlocks; i++) if (sequence.tables[g][i] !== NO_BLOCK) holders[g][sequence.tables[g][i]]++;
      if (sequence.copySources[g] !== NO_BLOCK) holders[g][sequence.copySources[g]]++;
      for (const block of [sequence.states[g], sequence.stateSources[g], sequence.checkpoints[g]]) if (block !== NO_BLOCK) holders[g][block]++;
      for (const block of sequence.retention?.originals[g] ?? []) holders[g][block]++;
    }
  }
  pools.forEach((pool, g) => {
    pool.check(holders[g]);
  });
  const bound = checkTree(memory);
  pools.forEach((pool, g) => {
    let remembered = 0;
    for (let block = 0; block < pool.numBlocks; block++) if (pool.node(block) !== NO_NODE) remembered++;
    invariant(remembered === bound[g], 'a block remembers a tree node that is gone');
  });
}

/** @returns blocks of each group that the tree knows */
function checkTree({ tree, pools, groups, blockSize }: PrefixMemory): number[] {
  const bound = pools.map(() => 0);
  tree.forEach((node) => {
    const parent = tree.parent(node);
    invariant(parent === NO_NODE || tree.length(parent) === blockSize || tree.parent(parent) === NO_NODE, 'a tail has children');
    groups.forEach((group, g) => {
      const block = tree.block(node, g);
      if (block === NO_BLOCK) return;
      bound[g]++;
      invariant(pools[g].node(block) === node, `tree node ${node} and block ${block} disagree`);
      if (!pools[g].isCached(block)) return;
      const mayGo = !keepsAll(group) || !tree.hasChildren(node);
      invariant(pools[g].isEvictable(block) === mayGo, `cached block ${block} ${mayGo ? 'cannot' : 'can'} be evicted`);
    });
  });
  return bound;
}
