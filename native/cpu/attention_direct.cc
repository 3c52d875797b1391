// Scores and weighted values of one token (decode), read from the cache as stored and widened in registers.
//
// Each vector of K or V is widened once for all query heads that share the KV head (up to kDirectRows). Sums, their order and every fused multiply-add are
// those of attention_split.cc, so the bits are too; what differs is that nothing goes through memory on the way. K of a block is
// [headDim][blockSize]: a vector of keys lies in one block. V is [blockSize][headDim]. Bound by memory for few heads per KV head, by f32 FMA for many.
// Lines are fetched kBytesAhead before they are used: what a head has in a block is too short for the processor to notice a stream. Without it, 2 to 2.4
// times as long at 8,192 tokens; twice or four times the distance changes nothing.
#include "attention_direct_loops.h"
#include "kv_storage.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

// Numbers of f32, one after the other.
template <class Storage>
struct F32Terms {
  using Element = typename Storage::Element;
  using Left = float;
  static constexpr int kPacked = Storage::kPacked, kLeft = 2;
  struct KeyParameters {
    typename Storage::Scale scales[kPair];
  };
  template <int NR>
  struct Right {
    Vec rows[2][NR];
  };
  static MILLRACE_INLINE KeyParameters keyParameters(const uint8_t* const* at) { return {{Storage::scalesAt(at[0], 0), Storage::scalesAt(at[1], 0)}}; }
  static MILLRACE_INLINE Vec scaled(Vec sum, const KeyParameters&, int) { return sum; }

  template <bool Together>
  static MILLRACE_INLINE void keys(const Element* first, const Element* second, int64_t blockSize, const KeyParameters& given, Right<kPair>& right) {
    MILLRACE_UNROLL
    for (int row = 0; row < 2; row++) {
      const int64_t at = row / kPacked * blockSize;
      right.rows[row][0] = Storage::scaled(Storage::keys(first + at, row % kPacked), given.scales[0]);
      right.rows[row][1] = Storage::scaled(Storage::keys((Together ? first + kLanes : second) + at, row % kPacked), given.scales[1]);
    }
  }
  template <int NR>
  static MILLRACE_INLINE void values(const Element* first, const Element* second, const uint8_t* parameters, int64_t at, Right<NR>& right) {
    const typename Storage::Scale scales[2] = {Storage::scaleAt(parameters, at), Storage::scaleAt(parameters, at + 1)};
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      right.rows[0][j] = Storage::scaled(Storage::values(first, j * kLanes), scales[0]);
      right.rows[1][j] = Storage::scaled(Storage::values(second, j * kLanes), scales[1]);
    }
  }
  template <int MR, int NR>
  static MILLRACE_INLINE void multiplyRow(Vec (&sums)[MR][NR], const Vec (&right)[NR], const float* left, int64_t stride) {
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      const Vec a = set1(left[m * stride]);
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = fma(a, right[j], sums[m][j]);
    }
  }
  template <int MR, int NR>
  static MILLRACE_INLINE void multiply(Vec (&sums)[MR][NR], const Right<NR>& right, const float* left, int64_t stride) {
    multiplyRow(sums, right.rows[0], left, stride);
    multiplyRow(sums, right.rows[1], left + 1, stride);
  }
  template <int MR, int NR>
  static MILLRACE_INLINE void multiplyOne(Vec (&sums)[MR][NR], const Right<NR>& right, const float* left, int64_t stride, bool isSecond) {
    if (isSecond) multiplyRow(sums, right.rows[1], left + 1, stride);
    else multiplyRow(sums, right.rows[0], left, stride);
  }
};

constexpr int64_t kBytesAhead = 8192;

// Calls f(piece, block, offset) for pieces [first, last] of a row's table, counted from cache index 0.
template <class F>
MILLRACE_INLINE void forPieces(const ItemRows& rows, int32_t first, int32_t last, F&& f) {
  const int32_t perBlock = rows.args.cache.blockSize / kLanes;
  const int32_t* table = rows.args.blockTable + int64_t{rows.item.row} * rows.args.maxBlocks + first / perBlock;
  for (int32_t piece = first, within = first % perBlock; piece <= last; within = 0, table++)
    for (; within < perBlock && piece <= last; within++, piece++) f(piece, *table, within * kLanes);
}

}  // namespace

void findPieces(const ItemRows& rows, int32_t splitStart, int begin, int end, Pieces& pieces) {
  const KvLayer& cache = rows.args.cache;
  const int64_t headBytes = kvHeadBytes(cache), elementBytes = kvElementBytes(cache.dtype), parameterBytes = kvParameterBytes(cache.dtype);
  const int64_t toValues = kvHalfBlockBytes(cache), toValueParameters = kvHalfParameterBytes(cache);
  const uint8_t *keys = keysOf(cache, 0, rows.kvHead), *parameters = keyParametersOf(cache, 0, rows.kvHead);
  const int64_t blockStride = kvBlockStride(cache);
  const int32_t start = splitStart / kLanes;
  const bool together = cache.blockSize % (2 * kLanes) == 0;  // a block that has one piece of a pair has the other
  const int first = together ? begin / kLanes & ~1 : begin / kLanes, last = together ? (end - 1) / kLanes | 1 : (end - 1) / kLanes;
  forPieces(rows, start + first, start + last, [&](int32_t piece, int64_t block, int64_t offset) {
    const int i = piece - start;
    const uint8_t* k = keys + block * blockStride;
    const uint8_t* p = parameters + block * blockStride + offset * parameterBytes;
    pieces.keys[i] = k + offset * elementBytes;
    pieces.keyParameters[i] = p;
    pieces.lines[i] = k + offset * headBytes;
    pieces.values[i] = pieces.lines[kPieces + i] = k + offset * headBytes + toValues;
    pieces.valueParameters[i] = p + toValueParameters;
  });
  const auto blank = [&](int i) {
    pieces.keys[i] = pieces.keys[first];
    pieces.keyParameters[i] = pieces.keyParameters[first];
    pieces.lines[i] = pieces.lines[kPieces + i] = pieces.keys[first];
  };
  for (int i = 0; i < first; i++) blank(i);
  for (int i = last + 1; i < kPieces; i++) blank(i);
  const int32_t next = start + kPieces, end2 = smaller(next + kPieces - 1, (rows.item.keyEnd - 1) / kLanes);
  for (int i = larger(0, end2 - next + 1); i < kPieces; i++) pieces.lines[2 * kPieces + i] = pieces.keys[first];
  forPieces(rows, next, end2, [&](int32_t piece, int64_t block, int64_t offset) {
    pieces.lines[2 * kPieces + piece - next] = block < 0 ? pieces.keys[first] : keys + block * blockStride + offset * headBytes;
  });
  pieces.ahead = static_cast<int>(smaller<int64_t>(kPieces, larger<int64_t>(2, kBytesAhead / (kLanes * headBytes)))) & ~1;
}

bool readsDirectly(const ItemRows& rows) {
  const AttentionArgs& args = rows.args;
  if (args.cache.isLatent) return false;
  const int32_t token = rows.item.firstToken;
  if (args.ancestorStart != nullptr && args.ancestorStart[token + 1] > args.ancestorStart[token]) return false;
  return rows.item.numTokens == 1 && args.cache.blockSize % kLanes == 0 && args.cache.headDim % kLanes == 0;
}

void scoresDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch) {
  withStorage(rows.args.cache.dtype, [&](auto storage) {
    directScores<F32Terms<decltype(storage)>>(rows, pieces, begin, end, scratch.query, rows.args.cache.headDim, scratch.scores);
  });
}

void outputDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch, float* output) {
  withStorage(rows.args.cache.dtype, [&](auto storage) {
    directOutput<F32Terms<decltype(storage)>>(rows, pieces, begin, end, scratch.scores, kAttentionSplit, output);
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
