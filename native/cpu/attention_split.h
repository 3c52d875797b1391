// One split of attention for the query rows of one item: the arithmetic that every path of attention.cc shares. Private to attention*.cc.
#pragma once

#include "kv_cache.h"

namespace millrace::cpu::MILLRACE_ISA {

// Neighbouring queries of one row (sequence) with the query heads of one KV head. Row r of the item is query r / groupSize, head r % groupSize.
struct AttentionItem {
  int32_t row, firstToken, numTokens;
  int32_t keyBegin, keyEnd;  // union of what its queries see
};

// Result of query rows over some splits: softmax maximum, denominator and unnormalised output. Denominator 0 with maximum -infinity: nothing yet.
struct PartialRows {
  float* maximum;      // [rows]
  float* denominator;  // [rows]
  float* output;       // [rows, stride]
};

// Buffers of one worker, cut from attention scratch.
struct SplitScratch {
  float* query;   // [rows, headDim]; of a latent cache [headDim, rows rounded up to whole vectors]
  float* scores;  // [rows, kAttentionSplit]
  float* keys;    // [headDim, kKeyTile]
  float* values;  // [kKeyTile, stride]; of a latent cache whole rows, [kKeyTile, headDim rounded up to whole vectors]
};

// An item at one KV head: what computeSplit needs to know.
struct ItemRows {
  const AttentionArgs& args;
  AttentionItem item;
  int kvHead, groupSize;  // of a latent cache, groupSize neighbouring heads of those that share its rows
  int64_t stride;         // of output: elements of a value rounded up to whole vectors

  int rows() const { return item.numTokens * groupSize; }
  int32_t token(int r) const { return item.firstToken + r / groupSize; }
  int head(int r) const { return kvHead * groupSize + r % groupSize; }
};

// Elements of a value: a row of output.
MILLRACE_INLINE int32_t valueDim(const AttentionArgs& args) { return args.cache.isLatent ? args.rank : args.cache.headDim; }

// Keys [begin, end) that a token sees, as cache indices; ancestors go on at visibleEnd.
struct KeyRange {
  int32_t begin, end;
};
MILLRACE_INLINE KeyRange keysOfToken(const AttentionArgs& args, int32_t token) {
  if (args.window < 0) return {larger(0, args.cacheIndex[token] + 1 + args.window), smaller(args.visibleEnd[token], args.cacheIndex[token] - args.window)};
  const int32_t ancestors = args.ancestorStart == nullptr ? 0 : args.ancestorStart[token + 1] - args.ancestorStart[token];
  const int32_t begin = args.window == 0 ? 0 : larger(0, args.cacheIndex[token] + 1 - args.window);
  return {begin, args.visibleEnd[token] + ancestors};
}

// Copies the item's query rows into scratch.query; once per item.
void gatherQueries(const ItemRows& rows, const SplitScratch& scratch);

// Scores of all rows of an item with keys [begin, end) of the tile that starts at offset `tile` of the split, from latent rows in scratch.values
// (attention_latent.cc).
void gatherLatentQueries(const ItemRows& rows, const SplitScratch& scratch);
void scoreLatentTile(const ItemRows& rows, int tile, int begin, int end, const SplitScratch& scratch);

// Computes split number `split` from nothing: `out` holds every row's part, with maximum -infinity where a row has no key in it.
void computeSplit(const ItemRows& rows, int32_t split, const SplitScratch& scratch, const PartialRows& out);

// Joins row r of a later split to what earlier splits gave.
void mergeRow(const PartialRows& total, int64_t r, const PartialRows& part, int64_t partRow, int64_t stride);

}  // namespace millrace::cpu::MILLRACE_ISA
