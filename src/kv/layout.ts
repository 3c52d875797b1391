/** How many bytes KV takes and how many blocks fit a memory: arithmetic only, shared by the engine and the backends. */

/**
 * Number types that K and V may be stored in. `int8`, `fp8` and `int4` keep a parameter beside each head of K and of V of a token: a scale, of `int4` a zero
 * point too.
 */
export const kvDtypes = {
  f32: { bits: 32, parameterBytes: 0 },
  f16: { bits: 16, parameterBytes: 0 },
  bf16: { bits: 16, parameterBytes: 0 },
  int8: { bits: 8, parameterBytes: 2 },
  fp8: { bits: 8, parameterBytes: 2 },
  int4: { bits: 4, parameterBytes: 4 },
} as const satisfies Record<string, { bits: number; parameterBytes: number }>;

export type KvDtype = keyof typeof kvDtypes;

/** What this room must know of a cache group (S3); `CacheGroup` of a plan is one. */
export interface KvGroup {
  readonly name: string;
  readonly kind: 'full' | 'window' | 'latent' | 'state';
  /** Keys that a token of a `window` group sees, its own included. */
  readonly window?: number;
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
}

/** Whether a group keeps every token of a text: its blocks then go from the end of a text inwards, and a prefix has all or none of them. */
export function keepsAll({ kind }: KvGroup): boolean {
  return kind === 'full' || kind === 'latent';
}

/** Whether a group keeps a state a sequence, in a block of its own, and nothing a token. */
export function isState({ kind }: KvGroup): boolean {
  return kind === 'state';
}

/** Bytes of K and V of one token over all layers of a group; of its rows where the group is `latent`; 0 of a `state`. */
export function bytesPerToken(group: KvGroup, dtype: KvDtype): number {
  if (isState(group)) return 0;
  const rowsPerHead = group.kind === 'latent' ? 1 : 2;
  const { bits, parameterBytes } = kvDtypes[dtype];
  return rowsPerHead * group.numLayers * group.numKvHeads * (Math.ceil((group.headDim * bits) / 8) + parameterBytes);
}

/** Bytes of one block of a group, without a backend's own padding; of a `state` group a block is a state, always in f32. */
export function bytesPerBlock(group: KvGroup, blockSize: number, dtype: KvDtype): number {
  if (isState(group)) return 4 * group.numLayers * group.numKvHeads * group.headDim;
  return bytesPerToken(group, dtype) * blockSize;
}

export function blocksForTokens(numTokens: number, blockSize: number): number {
  return Math.ceil(numTokens / blockSize);
}

/** Lowest cache index that the token at `cacheIndex` reads in a group. */
export function firstKeyIndex(group: KvGroup, cacheIndex: number): number {
  if (isState(group)) return cacheIndex;
  return group.kind !== 'window' ? 0 : Math.max(0, cacheIndex + 1 - windowOf(group));
}

/** Most blocks that one sequence of `numTokens` holds at once when it advances by at most `chunk` tokens a step. */
export function peakBlocks(group: KvGroup, blockSize: number, numTokens: number, chunk: number): number {
  const all = blocksForTokens(numTokens, blockSize);
  if (isState(group)) return 1;
  if (group.kind !== 'window') return all;
  // the window before the chunk and the chunk itself, plus one block because neither end need be aligned
  return Math.min(all, blocksForTokens(windowOf(group) - 1 + chunk, blockSize) + 1);
}

/** States that the prefix cache may remember for each row of a step. */
const REMEMBERED_STATES = 8;

export interface SizingLimits {
  readonly blockSize: number;
  readonly dtype: KvDtype;
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
}

/**
 * Blocks of each group that `memoryBytes` holds. A group that keeps every token gets the most it can; a window group no more than all rows can hold at once,
 * since what has slid out is freed. Without such a group the window groups share everything.
 */
export function numBlocksForMemory(groups: readonly KvGroup[], memoryBytes: number, limits: SizingLimits): number[] {
  const sizes = groups.map((group) => bytesPerBlock(group, limits.blockSize, limits.dtype));
  const perBlockOfAll = sizes.reduce((sum, bytes) => sum + bytes, 0);
  const even = Math.floor(memoryBytes / perBlockOfAll);
  if (!groups.some(keepsAll)) return groups.map(() => even);
  const caps = groups.map((group) => (keepsAll(group) ? Infinity : isState(group) ? stateCap(limits) : windowCap(group, limits)));
  const counts = groups.map((_, g) => Math.min(even, caps[g]));
  const used = counts.reduce((sum, count, g) => sum + count * sizes[g], 0);
  const fullBytes = groups.reduce((sum, group, g) => sum + (keepsAll(group) ? sizes[g] : 0), 0);
  const extra = Math.floor((memoryBytes - used) / fullBytes);
  return counts.map((count, g) => (keepsAll(groups[g]) ? count + extra : count));
}

/** Tokens of one sequence that fit: the shortest of all groups. */
export function longestSequence(groups: readonly KvGroup[], numBlocks: readonly number[], limits: SizingLimits): number {
  const { blockSize } = limits;
  return groups.reduce((longest, group, g) => {
    const everything = numBlocks[g] * blockSize;
    const windowed = group.kind === 'window' && numBlocks[g] >= peakBlocks(group, blockSize, Number.MAX_SAFE_INTEGER, limits.maxNumBatchedTokens);
    return Math.min(longest, windowed || isState(group) ? Infinity : everything);
  }, Infinity);
}

/** Bytes that let every row reach the whole context: more would only hold cached prefixes. */
export function bytesForAllRows(groups: readonly KvGroup[], limits: SizingLimits): number {
  return groups.reduce((sum, group) => {
    const blocks = peakBlocks(group, limits.blockSize, limits.maxModelLen, limits.maxNumBatchedTokens) * limits.maxNumSeqs;
    return sum + blocks * bytesPerBlock(group, limits.blockSize, limits.dtype);
  }, 0);
}

/** Bytes that one sequence of the whole context needs. */
export function bytesForOneRow(groups: readonly KvGroup[], limits: SizingLimits): number {
  return bytesForAllRows(groups, { ...limits, maxNumSeqs: 1 });
}

export function windowOf(group: KvGroup): number {
  return group.window ?? 0;
}

/** A state for each row, and as many remembered ones as a row of ordinary length leaves. */
function stateCap({ maxNumSeqs }: SizingLimits): number {
  return maxNumSeqs * (1 + REMEMBERED_STATES);
}

function windowCap(group: KvGroup, { blockSize, maxNumSeqs, maxNumBatchedTokens }: SizingLimits): number {
  const perRow = blocksForTokens(windowOf(group), blockSize) + 2;
  return maxNumSeqs * perRow + blocksForTokens(maxNumBatchedTokens, blockSize);
}
