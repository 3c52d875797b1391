// The loops of attention_direct.cc and attention_direct_bf16.cc, over the cache as it is stored. Private to them.
//
// Terms say what is multiplied: two rows of K (elements 2i and 2i + 1 of the head) or of V (keys 2i and 2i + 1 of the split) at a time, widened once for up
// to kDirectRows query heads. The cache is read in pieces of kLanes keys: K of a split, then its V, then K of the next split. While two are computed with,
// the lines of later ones are fetched: what a head has in a block is only a few KiB long, too short for the processor to notice a stream.
#pragma once

#include "attention_direct.h"

namespace millrace::cpu::MILLRACE_ISA {

#if defined(MILLRACE_AVX512)
constexpr int kDirectRows = 8;  // 16 sums, what they are multiplied by, and a broadcast; 7 heads in one block
#elif defined(MILLRACE_AVX2)
constexpr int kDirectRows = 6;
#else
constexpr int kDirectRows = 4;  // products need a register of their own
#endif
constexpr int kPair = 2;  // pieces

// What to fetch while a pair of pieces is computed with: another pair, line after line, since that is what the second cache's own fetching follows.
struct Ahead {
  const uint8_t *first, *second;  // the second less what the first has
  int64_t half;
  MILLRACE_INLINE Ahead(const uint8_t* const* lines, int64_t bytesOfPiece) : first(lines[0]), second(lines[1] - bytesOfPiece), half(bytesOfPiece) {}
  // `Bytes` from byte `at` of the two on.
  template <int64_t Bytes>
  MILLRACE_INLINE void fetch(int64_t at) const {
    const uint8_t* from = (at < half ? first : second) + at;
    MILLRACE_UNROLL
    for (int64_t line = 0; line < Bytes; line += 64) prefetch(from + line);
  }
};

template <class Vector, int MR, int NR>
MILLRACE_INLINE void clear(Vector (&sums)[MR][NR]) {
  MILLRACE_UNROLL
  for (int m = 0; m < MR; m++) {
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) sums[m][j] = zero();
  }
}

// Bytes of two rows of NR vectors.
template <class Terms, int NR>
constexpr int64_t kStepBytes = 2 * NR * kLanes * static_cast<int64_t>(sizeof(typename Terms::Element)) / Terms::kPacked;

// Scores of MR rows with a pair of pieces.
template <class Terms>
struct DirectScores {
  using Element = typename Terms::Element;
  const Element *first, *second;  // pieces
  bool together;                  // the second lies beside the first
  typename Terms::KeyParameters parameters;
  int64_t blockSize, steps;
  const typename Terms::Left* query;
  int64_t queryStride;
  float* scores;
  Ahead ahead;

  template <int MR>
  MILLRACE_INLINE void run() {
    if (together) loop<MR, true>();
    else loop<MR, false>();
  }

  template <int MR, bool Together>
  MILLRACE_INLINE void loop() {
    Vec sums[MR][kPair];
    clear(sums);
    const int64_t step = blockSize * 2 / Terms::kPacked;
    const Element *a = first, *b = second;
    const auto* left = query;
    const auto given = parameters;
    const Ahead fetched = ahead;
    const int64_t stride = queryStride, count = steps, size = blockSize;
    for (int64_t i = 0; i < count; i++, a += step, b += step, left += Terms::kLeft) {
      fetched.template fetch<kStepBytes<Terms, kPair>>(i * kStepBytes<Terms, kPair>);
      typename Terms::template Right<kPair> right;
      Terms::template keys<Together>(a, b, size, given, right);
      Terms::multiply(sums, right, left, stride);
    }
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < kPair; j++) store(scores + m * kAttentionSplit + j * kLanes, Terms::scaled(sums[m][j], given, j));
    }
  }
};

// NR vectors of the head, from element d on, over keys [begin, end) of a split.
template <class Terms, int NR>
struct DirectOutput {
  using Element = typename Terms::Element;
  const KvLayer& cache;
  const Pieces& pieces;
  int begin, end;
  const typename Terms::Left* weights;  // of the first row of the block
  int64_t weightStride, d;
  float* output;
  int64_t stride;
  int ahead;

  template <int MR>
  MILLRACE_INLINE void run() {
    Vec sums[MR][NR];
    clear(sums);
    const int64_t rowLength = cache.headDim / Terms::kPacked;
    for (int piece = begin / kLanes; piece * kLanes < end; piece++) add(sums, piece, larger(begin - piece * kLanes, 0), smaller(end - piece * kLanes, kLanes), rowLength);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) store(output + m * stride + d + j * kLanes, sums[m][j]);
    }
  }

  // Keys [from, to) of a piece.
  template <int MR>
  MILLRACE_INLINE void add(Vec (&sums)[MR][NR], int piece, int from, int to, int64_t rowLength) const {
    constexpr int64_t kBytes = kStepBytes<Terms, NR>;
    const int64_t weightsApart = weightStride;
    const uint8_t* given = pieces.valueParameters[piece];
    int at = from & ~1;
    const auto* v = reinterpret_cast<const Element*>(pieces.values[piece]) + at * rowLength + d / Terms::kPacked;
    const auto* left = weights + (piece * kLanes + at) / 2 * Terms::kLeft;
    // each group of columns fetches its share of a later piece
    const uint8_t* fetched = pieces.lines[kPieces + piece + ahead] + (d / (NR * kLanes) * kLanes + at) / 2 * kBytes;
    for (; at < to; at += 2, v += 2 * rowLength, left += Terms::kLeft, fetched += kBytes) {
      MILLRACE_UNROLL
      for (int64_t line = 0; line < kBytes; line += 64) prefetch(fetched + line);
      typename Terms::template Right<NR> right;
      Terms::values(v, v + rowLength, given, at, right);
      if (at < from || at + 1 == to) Terms::multiplyOne(sums, right, left, weightsApart, at < from);
      else Terms::multiply(sums, right, left, weightsApart);
    }
  }
};

// Scores of all rows with keys [begin, end) of the split. `query`: Left [rows, queryStride].
template <class Terms>
void directScores(const ItemRows& rows, const Pieces& pieces, int begin, int end, const typename Terms::Left* query, int64_t queryStride, float* scores) {
  using Element = typename Terms::Element;
  const KvLayer& cache = rows.args.cache;
  const bool together = cache.blockSize % (kPair * kLanes) == 0;
  for (int piece = begin / (kPair * kLanes) * kPair; piece * kLanes < end; piece += kPair) {
    DirectScores<Terms> kernel{reinterpret_cast<const Element*>(pieces.keys[piece]),
                               reinterpret_cast<const Element*>(pieces.keys[piece + 1]),
                               together,
                               Terms::keyParameters(pieces.keyParameters + piece),
                               cache.blockSize,
                               cache.headDim / 2,
                               nullptr,
                               queryStride,
                               nullptr,
                               Ahead(pieces.lines + piece + pieces.ahead, kLanes * kvHeadBytes(cache))};
    forRowBlocks(rows.rows(), kDirectRows, [&](int first, int count) {
      if (first > 0) kernel.ahead = Ahead(pieces.lines + piece, kLanes * kvHeadBytes(cache));  // they have come
      kernel.query = query + first * queryStride;
      kernel.scores = scores + int64_t{first} * kAttentionSplit + piece * kLanes;
      withRows<kDirectRows>(count, kernel);
    });
  }
}

template <int N>
struct Width {
  static constexpr int value = N;
};

// Weights (Left [rows, weightStride], of pairs of keys from offset 0 on) times values, into rows of output.
template <class Terms>
void directOutput(const ItemRows& rows, const Pieces& pieces, int begin, int end, const typename Terms::Left* weights, int64_t weightStride, float* output) {
  forRowBlocks(rows.rows(), kDirectRows, [&](int first, int count) {
    const auto columns = [&](auto width, int64_t d) {
      DirectOutput<Terms, decltype(width)::value> kernel{rows.args.cache,           pieces,       begin, end,
                                                         weights + first * weightStride, weightStride, d,     output + first * rows.stride,
                                                         rows.stride,               first == 0 ? pieces.ahead : 0};
      withRows<kDirectRows>(count, kernel);
    };
    int64_t d = 0;
    for (; d + kPair * kLanes <= rows.stride; d += kPair * kLanes) columns(Width<kPair>{}, d);
    for (; d < rows.stride; d += kLanes) columns(Width<1>{}, d);
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
