// Scores and weighted values of one token (decode), read from the cache as stored and widened in registers.
//
// Each vector of K or V is widened once for all query heads that share the KV head (up to kRows). Sums, their order and every fused multiply-add are
// those of attention_split.cc, so the bits are too; what differs is that nothing goes through memory on the way. K of a block is
// [headDim][blockSize]: a vector of keys lies in one block. V is [blockSize][headDim]. Bound by memory for few heads per KV head, by f32 FMA for many.
// Lines are fetched kBytesAhead before they are used (attention_direct.h): without that, 7 heads at 8,192 tokens of f16 read 7 GB/s a thread, with it 19.5.
// Measured (2 threads of a Zen 5 server part beside other work, K and V of 24 layers, limits in the same process): 7 heads per KV head of 64 at 8,192 tokens
// of f16: 34.5 GB/s of 71 GB/s that memory gave, 241 GFLOP/s.
#include "attention_direct.h"
#include "kv_storage.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

#if defined(MILLRACE_AVX512)
constexpr int kRows = 8;  // 16 sums, 2 widened vectors and a broadcast; 7 heads in one block
#elif defined(MILLRACE_AVX2)
constexpr int kRows = 6;
#else
constexpr int kRows = 4;  // products need a register of their own
#endif
constexpr int kVectors = kChunk / kLanes;

template <class Storage>
struct Scores {
  const typename Storage::Element* keys[kVectors];
  typename Storage::Scale scales[kVectors];
  int64_t blockSize;
  int headDim;
  const float* query;
  float* scores;
  Ahead ahead;

  template <int MR>
  MILLRACE_INLINE void run() {
    Vec sums[MR][kVectors];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < kVectors; j++) sums[m][j] = zero();
    }
    for (int d = 0, at = 0; d < headDim; at++) {
      ahead.step(sizeof(typename Storage::Element) == 4 ? 2 : 1);
      MILLRACE_UNROLL
      for (int part = 0; part < Storage::kPacked; part++, d++) {
        Vec right[kVectors];
        MILLRACE_UNROLL
        for (int j = 0; j < kVectors; j++) right[j] = Storage::scaled(Storage::keys(keys[j] + at * blockSize, part), scales[j]);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) {
          const Vec left = set1(query[int64_t{m} * headDim + d]);
          MILLRACE_UNROLL
          for (int j = 0; j < kVectors; j++) sums[m][j] = fma(left, right[j], sums[m][j]);
        }
      }
    }
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < kVectors; j++) store(scores + m * kAttentionSplit + j * kLanes, sums[m][j]);
    }
  }
};

// NR vectors of the head, from element d on, over the keys of a split.
template <class Storage, int NR>
struct Output {
  const ItemRows& rows;
  int32_t splitStart;
  int begin, end;
  const float* weights;  // of the first row of the block, offset 0 of the split
  int64_t d;
  float* output;
  bool fetches;

  template <int MR>
  MILLRACE_INLINE void run() {
    const KvLayer& cache = rows.args.cache;
    const int linesPerKey = static_cast<int>(ceilDiv(kvHeadBytes(cache), 64));
    const int32_t* table = rows.args.blockTable + int64_t{rows.item.row} * rows.args.maxBlocks;
    Vec sums[MR][NR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = zero();
    }
    for (int key = begin; key < end;) {
      const int offset = (splitStart + key) % cache.blockSize, runEnd = smaller(end, key + cache.blockSize - offset);
      const int32_t block = table[(splitStart + key) / cache.blockSize];
      const int64_t rowLength = cache.headDim / Storage::kPacked;
      const auto* v = reinterpret_cast<const typename Storage::Element*>(valuesOf(cache, block, rows.kvHead)) + offset * rowLength;
      const uint8_t* parameters = valueParametersOf(cache, block, rows.kvHead);
      Ahead ahead{};
      for (int at = offset; key < runEnd; key++, at++, v += rowLength) {
        if (fetches) {
          if (key % kChunk == 0 || key == begin) ahead = aheadOf(rows, splitStart, kChunksOfSplit + key / kChunk);
          ahead.step(linesPerKey);
        }
        const typename Storage::Scale scale = Storage::scaleAt(parameters, at);
        Vec right[NR];
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) right[j] = Storage::scaled(Storage::values(v, d + j * kLanes), scale);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) {
          const Vec left = set1(weights[m * kAttentionSplit + key]);
          MILLRACE_UNROLL
          for (int j = 0; j < NR; j++) sums[m][j] = fma(left, right[j], sums[m][j]);
        }
      }
    }
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) store(output + m * rows.stride + d + j * kLanes, sums[m][j]);
    }
  }
};

}  // namespace

bool readsDirectly(const ItemRows& rows) {
  const AttentionArgs& args = rows.args;
  if (args.cache.isLatent) return false;
  const int32_t token = rows.item.firstToken;
  if (args.ancestorStart != nullptr && args.ancestorStart[token + 1] > args.ancestorStart[token]) return false;
  return rows.item.numTokens == 1 && args.cache.blockSize % kLanes == 0 && args.cache.headDim % kLanes == 0;
}

void scoresDirect(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch) {
  const KvLayer& cache = rows.args.cache;
  const int32_t* table = rows.args.blockTable + int64_t{rows.item.row} * rows.args.maxBlocks;
    withStorage(cache.dtype, [&](auto storage) {
    using Storage = decltype(storage);
    for (int key = begin / kChunk * kChunk; key < end; key += kChunk) {
      Scores<Storage> kernel{{}, {}, cache.blockSize, cache.headDim, nullptr, nullptr, {}};
      int seen = -1;
      for (int j = 0; j < kVectors; j++) {
        const int first = key + j * kLanes;
        kernel.keys[j] = nullptr;
        if (first >= end || first + kLanes <= begin) continue;  // no key of it is visible: its block may be gone
        const int32_t index = splitStart + first, block = table[index / cache.blockSize], offset = index % cache.blockSize;
        kernel.keys[j] = reinterpret_cast<const typename Storage::Element*>(keysOf(cache, block, rows.kvHead)) + offset;
        kernel.scales[j] = Storage::scalesAt(keyParametersOf(cache, block, rows.kvHead), offset);
        seen = j;
      }
      for (int j = 0; j < kVectors; j++) {
        if (kernel.keys[j] != nullptr) continue;
        kernel.keys[j] = kernel.keys[seen];  // scores that nobody looks at
        kernel.scales[j] = kernel.scales[seen];
      }
      forRowBlocks(rows.rows(), kRows, [&](int first, int count) {
        kernel.ahead = first == 0 ? aheadOf(rows, splitStart, key / kChunk) : Ahead{};
        kernel.query = scratch.query + int64_t{first} * cache.headDim;
        kernel.scores = scratch.scores + int64_t{first} * kAttentionSplit + key;
        withRows<kRows>(count, kernel);
      });
    }
  });
}

void outputDirect(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch, float* output) {
  withStorage(rows.args.cache.dtype, [&](auto storage) {
    using Storage = decltype(storage);
    forRowBlocks(rows.rows(), kRows, [&](int first, int count) {
      const float* weights = scratch.scores + int64_t{first} * kAttentionSplit;
      float* out = output + first * rows.stride;
      int64_t d = 0;
      for (; d + kVectors * kLanes <= rows.stride; d += kVectors * kLanes) {
        Output<Storage, kVectors> kernel{rows, splitStart, begin, end, weights, d, out, first == 0 && d == 0};
        withRows<kRows>(count, kernel);
      }
      for (; d < rows.stride; d += kLanes) {
        Output<Storage, 1> kernel{rows, splitStart, begin, end, weights, d, out, first == 0 && d == 0};
        withRows<kRows>(count, kernel);
      }
    });
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
