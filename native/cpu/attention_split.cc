// One split of attention: scores, softmax from nothing, weighted values.
//
//   s[r, j] = scale * sum_d q[r, d] k[j, d], soft-capped, plus slope * (j - own index) where heads have slopes;  m[r] = max_j s;  p[r, j] = e^(s - m);  l[r] = sum_j p;  o[r, d] = sum_j p v[j, d]
//
// over the keys j of one split of kAttentionSplit that row r sees. Here everything is f32, K and V are widened from the cache exactly; q and p are rounded
// only where the op asks for bf16 (on AVX-512 attention_bf16.cc does it then). Softmax: attention_softmax.cc. Order, the same for a query wherever it is computed: s in the order of d in one lane; l by lane (j modulo kLanes), lanes
// folded as a tree; o in the order of j in one lane. Keys that a row does not see are skipped, not multiplied by zero: what lies in
// their slots (even NaN) cannot reach the row.
//
// Keys come in tiles of kKeyTile, widened once for all rows into panels that stay in L1; query rows meet them in register blocks, as in linear.
// Measured (2 threads of a Zen 5 server part beside other work, peaks in the same process; 14 heads on 2 KV heads of 64, f16): 512 queries over 512 keys
// 57 %, 256 over 4,096 keys 58 to 64 % of the f32 peak; the rest is exponentials, passes over the scores and widening.
// A single token's few rows read the cache directly instead (attention_direct.cc): the same arithmetic without the panels.
#include "attention_bf16.h"
#include "attention_direct.h"
#include "attention_split.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

#if defined(MILLRACE_AVX512)
constexpr int kRowBlock = 6, kVectors = 4;
#else
constexpr int kRowBlock = 4, kVectors = 2;
#endif

// sums[m][j] += sum_i a[m, i] * b[i, j], i in order.
template <int MR, int NR>
MILLRACE_INLINE void multiply(const float* a, int64_t aStride, const float* b, int64_t bStride, int count, Vec (&sums)[MR][NR]) {
  for (int i = 0; i < count; i++, a++, b += bStride) {
    Vec right[NR];
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) right[j] = load(b + j * kLanes);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      const Vec left = set1(a[m * aStride]);
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = fma(left, right[j], sums[m][j]);
    }
  }
}

// Scores of MR rows against kVectors vectors of keys.
struct ScoreBlock {
  const float* query;
  int64_t headDim;
  const float* keys;
  float* scores;

  template <int MR>
  MILLRACE_INLINE void run() {
    Vec sums[MR][kVectors];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < kVectors; j++) sums[m][j] = zero();
    }
    multiply<MR, kVectors>(query, headDim, keys, kKeyTile, static_cast<int>(headDim), sums);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < kVectors; j++) store(scores + m * kAttentionSplit + j * kLanes, sums[m][j]);
    }
  }
};

// Adds weights times values of `count` keys to MR rows of output, NR vectors of the head at a time.
struct OutputBlock {
  const float* weights;  // [MR, kAttentionSplit], first key
  const float* values;   // [count, valueStride]
  int64_t valueStride;
  int count;
  float* output;
  int64_t stride;

  template <int MR, int NR>
  MILLRACE_INLINE void columns(int64_t d) {
    Vec sums[MR][NR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = load(output + m * stride + d + j * kLanes);
    }
    multiply<MR, NR>(weights, kAttentionSplit, values + d, valueStride, count, sums);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) store(output + m * stride + d + j * kLanes, sums[m][j]);
    }
  }

  template <int MR>
  MILLRACE_INLINE void run() {
    int64_t d = 0;
    for (; d + kVectors * kLanes <= stride; d += kVectors * kLanes) columns<MR, kVectors>(d);
    for (; d < stride; d += kLanes) columns<MR, 1>(d);
  }
};

// Up to kRowBlock neighbouring rows of an item in one split, with what each sees and what all see.
struct RowBlock {
  int first, count;
  KeyRange ranges[kRowBlock];
  KeyRange all;
};

RowBlock rowBlock(const ItemRows& rows, int first, int count, int32_t splitStart) {
  RowBlock block;
  block.first = first;
  block.count = count;
  block.all = {0, kAttentionSplit};
  for (int m = 0; m < block.count; m++) {
    const KeyRange range = rangeInSplit(rows, first + m, splitStart);
    block.ranges[m] = range;
    block.all = {larger(block.all.begin, range.begin), smaller(block.all.end, range.end)};
  }
  return block;
}

KeyRange clip(KeyRange range, int tile) { return {larger(range.begin, tile), smaller(range.end, tile + kKeyTile)}; }

void scoreTile(const ItemRows& rows, int tile, int begin, int end, const SplitScratch& scratch) {
  constexpr int kStep = kVectors * kLanes;
  const int64_t headDim = rows.args.cache.headDim;
  forRowBlocks(rows.rows(), kRowBlock, [&](int first, int count) {
    for (int j = tile + (begin - tile) / kStep * kStep; j < end; j += kStep) {
      ScoreBlock kernel{scratch.query + first * headDim, headDim, scratch.keys + (j - tile), scratch.scores + int64_t{first} * kAttentionSplit + j};
      withRows<kRowBlock>(count, kernel);
    }
  });
}

// Rows meet the keys that all of them see together; each its own others before and after, so that every row adds its keys in order.
void outputTile(const ItemRows& rows, const RowBlock& block, int tile, const SplitScratch& scratch, int64_t valueStride, float* output) {
  const auto add = [&](int m, int count, int begin, int end) {
    if (begin >= end) return;
    const int64_t row = block.first + m;
    OutputBlock kernel{scratch.scores + row * kAttentionSplit + begin, scratch.values + (begin - tile) * valueStride, valueStride, end - begin,
                       output + row * rows.stride, rows.stride};
    withRows<kRowBlock>(count, kernel);
  };
  const KeyRange all = clip(block.all, tile);
  if (all.begin >= all.end) {
    for (int m = 0; m < block.count; m++) add(m, 1, clip(block.ranges[m], tile).begin, clip(block.ranges[m], tile).end);
    return;
  }
  for (int m = 0; m < block.count; m++) add(m, 1, clip(block.ranges[m], tile).begin, all.begin);
  add(0, block.count, all.begin, all.end);
  for (int m = 0; m < block.count; m++) add(m, 1, all.end, clip(block.ranges[m], tile).end);
}

}  // namespace

void gatherQueries(const ItemRows& rows, const SplitScratch& scratch) {
  const AttentionArgs& args = rows.args;
  if (args.cache.isLatent) return gatherLatentQueries(rows, scratch);
  if (readsPairs(args)) return gatherQueryPairs(rows, scratch);
  const int64_t headDim = args.cache.headDim;
  for (int r = 0; r < rows.rows(); r++) {
    const float* from = args.q.data + rows.token(r) * args.q.stride + rows.head(r) * headDim;
    float* to = scratch.query + r * headDim;
    std::memcpy(to, from, static_cast<size_t>(headDim) * 4);
    for (int64_t d = 0; d < headDim && args.roundsToBf16; d++) to[d] = bf16ToF32(f32ToBf16(from[d]));
  }
}

void computeSplit(const ItemRows& rows, int32_t split, const SplitScratch& scratch, const PartialRows& out) {
  const int32_t splitStart = split * kAttentionSplit;
  const int begin = larger(rows.item.keyBegin - splitStart, 0), end = smaller(rows.item.keyEnd - splitStart, kAttentionSplit);
  const bool direct = readsDirectly(rows), pairs = readsPairs(rows.args);
  const KeySource source = keySource(rows);
  const int firstTile = begin / kKeyTile * kKeyTile;
  const bool isLatent = rows.args.cache.isLatent;
  const int64_t valueStride = isLatent ? roundUp(rows.args.cache.headDim, kLanes) : rows.stride;
  const auto widenValuesOf = [&](int tile) {
    widenValues(source, isLatent ? 0 : rows.kvHead, splitStart + tile, splitStart + larger(begin, tile), splitStart + smaller(end, tile + kKeyTile), scratch.values,
                valueStride);
  };

  Pieces pieces;
  if (direct) findPieces(rows, splitStart, begin, end, pieces);
  if (pairs && direct) scorePairsDirect(rows, pieces, begin, end, scratch);
  else if (pairs) scorePairs(rows, splitStart, begin, end, scratch);
  else if (direct) scoresDirect(rows, pieces, begin, end, scratch);
  for (int tile = firstTile; tile < end && isLatent; tile += kKeyTile) {
    widenValuesOf(tile);
    scoreLatentTile(rows, tile, larger(begin, tile), smaller(end, tile + kKeyTile), scratch);
  }
  for (int tile = firstTile; tile < end && !direct && !isLatent && !pairs; tile += kKeyTile) {
    widenKeys(source, rows.kvHead, splitStart + tile, splitStart + larger(begin, tile), splitStart + smaller(end, tile + kKeyTile), scratch.keys);
    scoreTile(rows, tile, larger(begin, tile), smaller(end, tile + kKeyTile), scratch);
  }
  softmaxRows(rows, splitStart, begin, end, pairs, scratch, out);
  if (pairs && direct) return outputPairsDirect(rows, pieces, begin, end, scratch, out.output);
  if (pairs) return outputPairs(rows, splitStart, begin, end, scratch, out.output);
  if (direct) return outputDirect(rows, pieces, begin, end, scratch, out.output);
  std::memset(out.output, 0, static_cast<size_t>(rows.rows() * rows.stride) * 4);
  for (int tile = firstTile; tile < end; tile += kKeyTile) {
    widenValuesOf(tile);
    forRowBlocks(rows.rows(), kRowBlock, [&](int first, int count) { outputTile(rows, rowBlock(rows, first, count, splitStart), tile, scratch, valueStride, out.output); });
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
