// Attention of a single token straight from the cache. Private to attention*.cc.
#pragma once

#include "attention_split.h"

namespace millrace::cpu::MILLRACE_ISA {

// Whether the item's keys are read without panels: one token, keys in the block table only, whole vectors in blocks and heads.
bool readsDirectly(const ItemRows& rows);

// As in computeSplit, for keys [begin, end) of the split at `splitStart`: scores into scratch.scores, weights times values into `output`.
void scoresDirect(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch);
void outputDirect(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch, float* output);

// The cache is read in chunks of kChunk keys: K of a split, then its V, then K of the next split. While one is computed with, the lines of a later
// one are fetched: what a head has in a block is only a few KiB long, too short for the processor to notice a stream.
constexpr int kChunk = 2 * kLanes, kChunksOfSplit = kAttentionSplit / kChunk;
constexpr int64_t kBytesAhead = 8192;

struct Ahead {
  const uint8_t* at[2];  // the chunk, in one piece or one of each block
  int pieces, lines;            // lines left of each piece
  MILLRACE_INLINE void step(int count) {
    for (; count > 0 && lines > 0; count--, lines--)
      for (int i = 0; i < pieces; i++) prefetch(at[i]), at[i] += 64;
  }
};

// The chunk that is needed kBytesAhead after chunk `position` of the split (from kChunksOfSplit on, positions are those of V).
MILLRACE_INLINE Ahead aheadOf(const ItemRows& rows, int32_t splitStart, int position) {
  const KvLayer& cache = rows.args.cache;
  const int64_t chunkBytes = kChunk * kvHeadBytes(cache);
  position += static_cast<int>(larger<int64_t>(1, kBytesAhead / chunkBytes));
  const bool isValue = position >= kChunksOfSplit && position < 2 * kChunksOfSplit;
  const int32_t index = splitStart + (position % kChunksOfSplit + (position >= 2 * kChunksOfSplit ? kChunksOfSplit : 0)) * kChunk;
  Ahead ahead{};
  if (index >= rows.item.keyEnd || index + kChunk <= rows.item.keyBegin) return ahead;
  const int32_t* table = rows.args.blockTable + int64_t{rows.item.row} * rows.args.maxBlocks + index / cache.blockSize;
  ahead.pieces = cache.blockSize < kChunk ? kChunk / cache.blockSize : 1;
  ahead.lines = static_cast<int>(ceilDiv(chunkBytes / ahead.pieces, 64));
  const int64_t inBlock = index % cache.blockSize * kvHeadBytes(cache);
  for (int i = 0; i < ahead.pieces; i++) {
    const int32_t block = index + i * cache.blockSize < rows.item.keyEnd ? table[i] : -1;
    if (block >= 0) ahead.at[i] = (isValue ? valuesOf(cache, block, rows.kvHead) : keysOf(cache, block, rows.kvHead)) + inBlock;
  }
  return ahead;
}

}  // namespace millrace::cpu::MILLRACE_ISA
