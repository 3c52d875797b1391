/** What every backend's `readBlocks` and `writeBlocks` check, and the name of a layout of bytes. */
import { MillraceError } from '../base/errors.ts';
import type { Cache, CacheSpec } from './backend.ts';

/**
 * Names everything that the bytes of a block depend on besides its tokens and the model: caches with equal names understand each other's blocks, to
 * the bit. `writer` is the backend with its instruction-set class and the version of its layout.
 */
export function layoutName(writer: string, { groups, blockSize, dtype }: CacheSpec): string {
  const shapes = groups.map(
    ({ kind, window, numLayers, numKvHeads, headDim }) => `${kind}${kind === 'window' ? ` ${window}` : ''} ${numLayers}x${numKvHeads}x${headDim}`,
  );
  return `${writer}; ${dtype}; blocks of ${blockSize}; ${shapes.join(', ')}`;
}

/**
 * Bytes of blocks `[n, 2]` (group, block) together.
 * @throws BACKEND_STEP_FAILED for blocks that the cache does not have, or `given` bytes that are not theirs
 */
export function checkBlockBytes(cache: Cache, blocks: Int32Array, given?: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i + 1 < blocks.length; i += 2) {
    const numBlocks = cache.spec.groups[blocks[i]]?.numBlocks ?? 0;
    if (!(blocks[i + 1] >= 0 && blocks[i + 1] < numBlocks)) throw refused(`block ${blocks[i + 1]} of cache group ${blocks[i]} does not exist`);
    sum += cache.blockBytes[blocks[i]];
  }
  if (blocks.length % 2 !== 0) throw refused('blocks are not pairs of group and block');
  if (given !== undefined && given.byteLength !== sum)
    throw refused(`${blocks.length / 2} blocks of ${sum} bytes are given as ${given.byteLength} bytes`);
  return sum;
}

function refused(complaint: string): MillraceError {
  return new MillraceError('BACKEND_STEP_FAILED', `Blocks cannot be read or written: ${complaint}.`);
}
