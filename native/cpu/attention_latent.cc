// Scores of multi-head latent attention (DeepSeek-V2, arXiv:2405.04434): all query heads against rows that are key and value at once.
//
//   s[r, j] = sum_d q[r, d] row[j, d],  d over the compressed part, then over the rotary part
//
// A row of the cache lies with its elements side by side, as the values of attention_split.cc do, and as the weighted sum wants them. So here the lanes
// are queries, of which there are many: an element of a row is broadcast to them, and a tile of rows, widened once, serves scores and values of every
// head of the item. The order of a sum is that of attention_split.cc: in the order of d in one lane.
// Bound by arithmetic from about 8 heads on: 2 (headDim + rank) multiply-adds a byte pair and head.
#include "attention_split.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

#if defined(MILLRACE_AVX512)
constexpr int kKeys = 6, kVectors = 4;
#else
constexpr int kKeys = 4, kVectors = 2;
#endif

// Scores of MR keys with NR vectors of queries, put down a query a row.
template <int NR>
struct LatentBlock {
  const float* query;     // first lane
  int64_t queryStride;
  const float* row;       // first key
  int64_t rowStride;
  int headDim, queries;   // queries that there are, at most NR * kLanes
  float* scores;          // first query, first key

  template <int MR>
  MILLRACE_INLINE void run() {
    Vec sums[MR][NR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = zero();
    }
    const float* q = query;
    for (int d = 0; d < headDim; d++, q += queryStride) {
      Vec right[NR];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) right[j] = load(q + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        const Vec left = set1(row[m * rowStride + d]);
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = fma(left, right[j], sums[m][j]);
      }
    }
    alignas(64) float lanes[NR * kLanes];
    for (int m = 0; m < MR; m++) {
      for (int j = 0; j < NR; j++) store(lanes + j * kLanes, sums[m][j]);
      for (int i = 0; i < queries; i++) scores[int64_t{i} * kAttentionSplit + m] = lanes[i];
    }
  }
};

template <int Keys, class F>
MILLRACE_INLINE void withKeys(int count, F& f) {
  if (count == Keys) f.template run<Keys>();
  else if constexpr (Keys > 1) withKeys<Keys - 1>(count, f);
}

template <int NR>
void scoreColumns(const ItemRows& rows, int firstRow, int tile, int begin, int end, const SplitScratch& scratch) {
  const int headDim = rows.args.cache.headDim;
  const int64_t rowStride = roundUp(headDim, kLanes), queryStride = roundUp(rows.rows(), kLanes);
  for (int key = begin; key < end; key += kKeys) {
    LatentBlock<NR> block{scratch.query + firstRow,
                          queryStride,
                          scratch.values + (key - tile) * rowStride,
                          rowStride,
                          headDim,
                          smaller(NR * kLanes, rows.rows() - firstRow),
                          scratch.scores + int64_t{firstRow} * kAttentionSplit + key};
    withKeys<kKeys>(smaller(kKeys, end - key), block);
  }
}

}  // namespace

void gatherLatentQueries(const ItemRows& rows, const SplitScratch& scratch) {
  const AttentionArgs& args = rows.args;
  const int rank = args.rank, rotary = args.cache.headDim - rank;
  const int64_t stride = roundUp(rows.rows(), kLanes);
  for (int64_t r = 0; r < stride; r++) {
    const bool exists = r < rows.rows();
    const float* latent = exists ? args.q.data + rows.token(static_cast<int>(r)) * args.q.stride + int64_t{rows.head(static_cast<int>(r))} * rank : nullptr;
    const float* key = exists ? args.qRotary.data + rows.token(static_cast<int>(r)) * args.qRotary.stride + int64_t{rows.head(static_cast<int>(r))} * rotary : nullptr;
    for (int d = 0; d < rank; d++) scratch.query[d * stride + r] = exists ? latent[d] : 0.0f;
    for (int d = 0; d < rotary; d++) scratch.query[(rank + d) * stride + r] = exists ? key[d] : 0.0f;
  }
}

void scoreLatentTile(const ItemRows& rows, int tile, int begin, int end, const SplitScratch& scratch) {
  int row = 0;
  for (; row + (kVectors - 1) * kLanes < rows.rows(); row += kVectors * kLanes) scoreColumns<kVectors>(rows, row, tile, begin, end, scratch);
  for (; row < rows.rows(); row += kLanes) scoreColumns<1>(rows, row, tile, begin, end, scratch);
}

}  // namespace millrace::cpu::MILLRACE_ISA
