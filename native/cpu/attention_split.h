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
  float* maximum;      // [rows], of scores times log2 e
  float* denominator;  // [rows]
  float* output;       // [rows, stride]
};

// Buffers of one worker, cut from attention scratch.
struct SplitScratch {
  float* query;   // [rows, headDim]; of a latent cache [headDim, rows rounded up to whole vectors]; as pairs [rows, queryPairs]
  float* scores;  // [rows, kAttentionSplit]; weights as pairs take the first half of a row
  float* keys;    // [headDim, kKeyTile]; as pairs [queryPairs, kKeyTile]
  float* values;  // [kKeyTile, stride]; of a latent cache whole rows, [kKeyTile, headDim rounded up to whole vectors]; as pairs [kAttentionSplit / 2, stride]
  float* scales;  // [kAttentionSplit]: of the values of a split, where weights are rounded
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

// The part of a split that one row sees, as offsets in the split; empty when begin >= end.
MILLRACE_INLINE KeyRange rangeInSplit(const ItemRows& rows, int r, int32_t splitStart) {
  const KeyRange keys = keysOfToken(rows.args, rows.token(r));
  return {larger(keys.begin - splitStart, 0), smaller(keys.end - splitStart, kAttentionSplit)};
}

// Where the keys of an item are. A token with ancestors is an item of its own; for others the table holds all that the item sees.
MILLRACE_INLINE KeySource keySource(const ItemRows& rows) {
  const AttentionArgs& args = rows.args;
  const int32_t token = rows.item.firstToken;
  const int32_t* ancestors = args.ancestorStart == nullptr ? nullptr : args.ancestorSlots + args.ancestorStart[token];
  const bool hasAncestors = ancestors != nullptr && args.ancestorStart[token + 1] > args.ancestorStart[token];
  return {&args.cache, args.blockTable + int64_t{rows.item.row} * args.maxBlocks, hasAncestors ? args.visibleEnd[token] : rows.item.keyEnd, ancestors};
}

// Calls f(firstRow, count) for blocks of at most `most` rows, near equal: 7 rows are 4 + 3, not 6 + 1.
template <class F>
MILLRACE_INLINE void forRowBlocks(int total, int most, F&& f) {
  for (int first = 0; first < total;) {
    const int blocks = (total - first + most - 1) / most, count = (total - first + blocks - 1) / blocks;
    f(first, count);
    first += count;
  }
}
// Calls f.run<count>().
template <int Rows, class F>
MILLRACE_INLINE void withRows(int count, F& f) {
  if (count == Rows) f.template run<Rows>();
  else if constexpr (Rows > 1) withRows<Rows - 1>(count, f);
}

// Copies the item's query rows into scratch.query; once per item.
void gatherQueries(const ItemRows& rows, const SplitScratch& scratch);

// Scores of all rows of an item with keys [begin, end) of the tile that starts at offset `tile` of the split, from latent rows in scratch.values
// (attention_latent.cc).
void gatherLatentQueries(const ItemRows& rows, const SplitScratch& scratch);
void scoreLatentTile(const ItemRows& rows, int tile, int begin, int end, const SplitScratch& scratch);

// Scores [rows, kAttentionSplit] of a split to weights in place, and each row's maximum and denominator (attention_softmax.cc). `pairs`: the weights
// become bf16, two to a word.
void softmaxRows(const ItemRows& rows, int32_t splitStart, int begin, int end, bool pairs, const SplitScratch& scratch, const PartialRows& out);

// Computes split number `split` from nothing: `out` holds every row's part, with maximum -infinity where a row has no key in it.
void computeSplit(const ItemRows& rows, int32_t split, const SplitScratch& scratch, const PartialRows& out);

// 2^t for t <= 0; 0 below -126.5 (-infinity included), NaN stays NaN. At most about 1.5 ulp off; 2^0 is 1.
MILLRACE_INLINE Vec exp2Negative(Vec t) {
  t = max(set1(-127.0f), t);  // max returns its second operand when one is NaN
  const Vec magic = set1(12583039.0f);  // 1.5 * 2^23 + 127: the low bits of the sum are the biased exponent of 2^round(t)
  const Vec shifted = add(t, magic), r = sub(t, sub(shifted, magic));
  Vec p = set1(0.000154614477f);  // (2^r - 1) / r on [-1/2, 1/2], by interpolation at Chebyshev nodes
  p = fma(p, r, set1(0.00133908669f));
  p = fma(p, r, set1(0.00961805694f));
  p = fma(p, r, set1(0.0555035695f));
  p = fma(p, r, set1(0.240226507f));
  p = fma(p, r, set1(0.693147182f));
  p = fma(p, r, set1(1.0f));
  return mul(p, asFloat(shiftLeft<23>(asInt(shifted))));
}
constexpr float kLog2e = 1.44269504f;

// Joins row r of a later split to what earlier splits gave.
void mergeRow(const PartialRows& total, int64_t r, const PartialRows& part, int64_t partRow, int64_t stride);

}  // namespace millrace::cpu::MILLRACE_ISA
