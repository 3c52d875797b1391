/** Blocks of a sequence that does not keep all of its tokens: taken for what comes, given back by what leaves. */
import { NO_BLOCK } from './block-pool.ts';
import { blocksForTokens } from './layout.ts';
import type { PrefixMemory } from './prefix-memory.ts';
import type { Retention } from './retention.ts';
import type { KvSequence } from './sequence.ts';

/**
 * Blocks for tokens up to `numTokens` of a sequence whose next step begins at index `first`: what leaves goes first.
 * @returns false, with nothing taken, when some group has too few
 */
export function allocateRetained(memory: PrefixMemory, sequence: KvSequence, retention: Retention, first: number, numTokens: number): boolean {
  trim(memory, sequence, retention, first);
  const numSinks = retention.numSinkBlocks;
  const leaving = retention.advance(first);
  for (let g = 0; leaving > 0 && g < memory.groups.length; g++) {
    const table = sequence.tables[g];
    for (let i = numSinks; i < numSinks + leaving; i++) memory.release(g, table[i]);
    table.copyWithin(numSinks, numSinks + leaving, sequence.numBlocks);
    table.fill(NO_BLOCK, sequence.numBlocks - leaving, sequence.numBlocks);
  }
  sequence.numBlocks -= leaving;
  const target = blocksForTokens(numTokens - retention.dropped, memory.blockSize);
  const missing = Math.max(0, target - sequence.numBlocks);
  const { needsOriginals } = retention;
  const wanted = missing + (needsOriginals ? numSinks : 0);
  for (const pool of memory.pools) if (pool.numAvailable < wanted) return false;
  sequence.reserve(target);
  for (let g = 0; g < memory.groups.length; g++) {
    const table = sequence.tables[g];
    for (let i = 0; i < missing; i++) table[sequence.numBlocks + i] = memory.take(g);
    if (!needsOriginals) continue;
    retention.originals[g] = table.slice(0, numSinks);
    for (let i = 0; i < numSinks; i++) table[i] = memory.take(g);
  }
  sequence.numBlocks += missing;
  return true;
}

/** Gives back the sinks as they were written. */
export function releaseOriginals(memory: PrefixMemory, { retention }: KvSequence): void {
  if (retention === null) return;
  for (let g = 0; g < memory.groups.length; g++) {
    for (const block of retention.originals[g]) memory.release(g, block);
    retention.originals[g] = new Int32Array(0);
  }
}

/** Gives back what lay behind a compressed prompt, once the step that moved it has been handed over. */
function trim(memory: PrefixMemory, sequence: KvSequence, retention: Retention, first: number): void {
  if (!retention.isTrimDue || !retention.isTaskTaken) return;
  const kept = blocksForTokens(first - retention.dropped, memory.blockSize);
  for (let i = sequence.numBlocks - 1; i >= kept; i--) {
    for (let g = 0; g < memory.groups.length; g++) {
      memory.release(g, sequence.tables[g][i]);
      sequence.tables[g][i] = NO_BLOCK;
    }
  }
  sequence.numBlocks = Math.min(sequence.numBlocks, kept);
  retention.isTrimDue = false;
}
