// One split of attention: scores, softmax from nothing, weighted values.
//
//   s[r, j] = scale * sum_d q[r, d] k[j, d], soft-capped, plus slope * (j - own index) where heads have slopes;  m[r] = max_j s;  p[r, j] = e^(s - m);  l[r] = sum_j p;  o[r, d] = sum_j p v[j, d]
//
// over the keys j of one split of kAttentionSplit that row r sees. Everything is f32: q and p are not rounded, K and V are widened from the
// cache exactly. Order, the same for a query wherever it is computed: s in the order of d in one lane; l by lane (j modulo kLanes), lanes
// folded as a tree; o in the order of j in one lane. Keys that a row does not see are skipped, not multiplied by zero: what lies in
// their slots (even NaN) cannot reach the row.
//
// Keys come in tiles of kKeyTile, widened once for all rows into panels that stay in L1; query rows meet them in register blocks, as in linear.
// Measured (as in linear_bf16.cc): 512 queries over contexts of 512 and 2048, 14 heads on 2 KV heads of 64: 50 % and 59 % of the f32 peak; the rest is
// exponentials, passes over the scores and widening.
// A single token's few rows read the cache directly instead (attention_direct.cc): the same arithmetic without the panels.
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

template <int Rows, class F>
MILLRACE_INLINE void withRows(int count, F& f) {
  if (count == Rows) f.template run<Rows>();
  else if constexpr (Rows > 1) withRows<Rows - 1>(count, f);
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

// The part of a split that one row sees, as offsets in the split; empty when begin >= end.
MILLRACE_INLINE KeyRange rangeInSplit(const ItemRows& rows, int r, int32_t splitStart) {
  const KeyRange keys = keysOfToken(rows.args, rows.token(r));
  return {larger(keys.begin - splitStart, 0), smaller(keys.end - splitStart, kAttentionSplit)};
}

// `distance` is the index of the split's first key less the row's own. Scores to weights in place, over [range.begin, range.end). The rest of the first and last vector becomes -infinity, which adds +0 to the sum.
void softmaxRow(float* scores, KeyRange range, float scale, float softCap, float slope, int32_t distance, float* maximum, float* denominator) {
  const int begin = range.begin / kLanes * kLanes, end = static_cast<int>(roundUp(range.end, kLanes));
  const float nothing = -bitCast<float>(0x7f800000);
  for (int j = begin; j < end; j += kLanes) {
    Vec s = mul(load(scores + j), set1(scale));
    if (softCap != 0.0f) s = mul(set1(softCap), tanh(div(s, set1(softCap))));
    store(scores + j, s);
  }
  if (slope != 0.0f)
    for (int j = begin; j < end; j++) scores[j] += slope * static_cast<float>(distance + j);
  for (int j = begin; j < range.begin; j++) scores[j] = nothing;
  for (int j = range.end; j < end; j++) scores[j] = nothing;
  Vec largest = set1(nothing);
  for (int j = begin; j < end; j += kLanes) largest = max(largest, load(scores + j));
  const float m = reduceMax(largest);
  Vec sum = zero();
  for (int j = begin; j < end; j += kLanes) {
    const Vec p = exp(sub(load(scores + j), set1(m)));
    store(scores + j, p);
    sum = add(sum, p);
  }
  *maximum = m;
  *denominator = reduceAdd(sum);
}

// Up to kRowBlock neighbouring rows of an item in one split, with what each sees and what all see.
struct RowBlock {
  int first, count;
  KeyRange ranges[kRowBlock];
  KeyRange any, all;
};

RowBlock rowBlock(const ItemRows& rows, int first, int32_t splitStart) {
  RowBlock block;
  block.first = first;
  block.count = smaller(kRowBlock, rows.rows() - first);
  block.any = {kAttentionSplit, 0};
  block.all = {0, kAttentionSplit};
  for (int m = 0; m < block.count; m++) {
    const KeyRange range = rangeInSplit(rows, first + m, splitStart);
    block.ranges[m] = range;
    if (range.begin < range.end) block.any = {smaller(block.any.begin, range.begin), larger(block.any.end, range.end)};
    block.all = {larger(block.all.begin, range.begin), smaller(block.all.end, range.end)};
  }
  return block;
}

KeyRange clip(KeyRange range, int tile) { return {larger(range.begin, tile), smaller(range.end, tile + kKeyTile)}; }

void scoreTile(const ItemRows& rows, const RowBlock& block, int tile, const SplitScratch& scratch) {
  const KeyRange keys = clip(block.any, tile);
  constexpr int kStep = kVectors * kLanes;
  for (int j = tile + (keys.begin - tile) / kStep * kStep; j < keys.end; j += kStep) {
    ScoreBlock kernel{scratch.query + int64_t{block.first} * rows.args.cache.headDim, rows.args.cache.headDim, scratch.keys + (j - tile),
                      scratch.scores + int64_t{block.first} * kAttentionSplit + j};
    withRows<kRowBlock>(block.count, kernel);
  }
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

KeySource keySource(const ItemRows& rows) {
  const AttentionArgs& args = rows.args;
  const int32_t token = rows.item.firstToken;
  const int32_t* ancestors = args.ancestorStart == nullptr ? nullptr : args.ancestorSlots + args.ancestorStart[token];
  // A token with ancestors is an item of its own; for others the table holds all that the item sees.
  const bool hasAncestors = ancestors != nullptr && args.ancestorStart[token + 1] > args.ancestorStart[token];
  return {&args.cache, args.blockTable + int64_t{rows.item.row} * args.maxBlocks, hasAncestors ? args.visibleEnd[token] : rows.item.keyEnd, ancestors};
}

}  // namespace

void gatherQueries(const ItemRows& rows, const SplitScratch& scratch) {
  if (rows.args.cache.isLatent) return gatherLatentQueries(rows, scratch);
  const int64_t headDim = rows.args.cache.headDim;
  for (int r = 0; r < rows.rows(); r++)
    std::memcpy(scratch.query + r * headDim, rows.args.q.data + rows.token(r) * rows.args.q.stride + rows.head(r) * headDim, static_cast<size_t>(headDim) * 4);
}

void computeSplit(const ItemRows& rows, int32_t split, const SplitScratch& scratch, const PartialRows& out) {
  const int32_t splitStart = split * kAttentionSplit;
  const int begin = larger(rows.item.keyBegin - splitStart, 0), end = smaller(rows.item.keyEnd - splitStart, kAttentionSplit);
  const bool direct = readsDirectly(rows);
  const KeySource source = keySource(rows);
  const int firstTile = begin / kKeyTile * kKeyTile;
  const bool isLatent = rows.args.cache.isLatent;
  const int64_t valueStride = isLatent ? roundUp(rows.args.cache.headDim, kLanes) : rows.stride;
  const auto widenValuesOf = [&](int tile) {
    widenValues(source, isLatent ? 0 : rows.kvHead, splitStart + tile, splitStart + larger(begin, tile), splitStart + smaller(end, tile + kKeyTile), scratch.values,
                valueStride);
  };

  if (direct) scoresDirect(rows, splitStart, begin, end, scratch);
  for (int tile = firstTile; tile < end && isLatent; tile += kKeyTile) {
    widenValuesOf(tile);
    scoreLatentTile(rows, tile, larger(begin, tile), smaller(end, tile + kKeyTile), scratch);
  }
  for (int tile = firstTile; tile < end && !direct && !isLatent; tile += kKeyTile) {
    widenKeys(source, rows.kvHead, splitStart + tile, splitStart + larger(begin, tile), splitStart + smaller(end, tile + kKeyTile), scratch.keys);
    for (int r = 0; r < rows.rows(); r += kRowBlock) scoreTile(rows, rowBlock(rows, r, splitStart), tile, scratch);
  }
  const float* slopes = rows.args.slopes;
  for (int r = 0; r < rows.rows(); r++) {
    const KeyRange range = rangeInSplit(rows, r, splitStart);
    out.maximum[r] = -bitCast<float>(0x7f800000);
    out.denominator[r] = 0.0f;
    if (range.begin < range.end)
      softmaxRow(scratch.scores + int64_t{r} * kAttentionSplit, range, rows.args.scale, rows.args.softCap, slopes == nullptr ? 0.0f : slopes[rows.head(r)],
                 splitStart - rows.args.cacheIndex[rows.token(r)], out.maximum + r, out.denominator + r);
  }
  if (direct) return outputDirect(rows, splitStart, begin, end, scratch, out.output);
  std::memset(out.output, 0, static_cast<size_t>(rows.rows() * rows.stride) * 4);
  for (int tile = firstTile; tile < end; tile += kKeyTile) {
    widenValuesOf(tile);
    for (int r = 0; r < rows.rows(); r += kRowBlock) outputTile(rows, rowBlock(rows, r, splitStart), tile, scratch, valueStride, out.output);
  }
}

void mergeRow(const PartialRows& total, int64_t r, const PartialRows& part, int64_t partRow, int64_t stride) {
  float* output = total.output + r * stride;
  const float* added = part.output + partRow * stride;
  const float nothing = -bitCast<float>(0x7f800000);
  if (part.denominator[partRow] == 0.0f && part.maximum[partRow] == nothing) return;  // the row has no key in this split
  if (total.denominator[r] == 0.0f && total.maximum[r] == nothing) {
    total.maximum[r] = part.maximum[partRow];
    total.denominator[r] = part.denominator[partRow];
    std::memcpy(output, added, static_cast<size_t>(stride) * 4);
    return;
  }
  const float m = larger(total.maximum[r], part.maximum[partRow]);
  const Vec keep = exp(set1(total.maximum[r] - m)), take = exp(set1(part.maximum[partRow] - m));
  total.maximum[r] = m;
  total.denominator[r] = firstLane(fma(set1(part.denominator[partRow]), take, mul(set1(total.denominator[r]), keep)));
  for (int64_t d = 0; d < stride; d += kLanes) store(output + d, fma(load(added + d), take, mul(load(output + d), keep)));
}

}  // namespace millrace::cpu::MILLRACE_ISA
