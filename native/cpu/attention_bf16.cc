// Attention whose queries and weights are bf16: both products by vdpbf16ps, on every level of bf16, int8, fp8 and int4 caches (attention_pairs.h).
//
//   s[r, j] = kscale[j] * sum_d bf16(q[r, d]) k[j, d]        o[r, d] = sum_j bf16(p[r, j] * vscale[j]) v[j, d]
//
// A lane adds two products an instruction, in pairs of d and of keys counted from the beginning of the split: the same in prefill and decode. A key that
// a row does not see is never multiplied: where one key of a pair is not seen, its half of the pair is cleared. As vdpbf16ps does, subnormal numbers
// count as zero. Other sets round alike and multiply f32 (attention_split.cc).
//
// Several tokens: K of a tile of kKeyTile keys is put into pairs once for all rows, V of the whole split too, so that an output is summed in registers
// from one end of the split to the other. One token: attention_direct_bf16.cc.
//
// Measured (2 threads of a Zen 5 server part beside other work, limits in the same process; 14 heads on 2 KV heads of 64): 256 queries over 4,096 keys 46 to
// 53 % of the bf16 peak (474 GFLOP/s of bf16, 1.7 times attention_split.cc on f16 in the same run), the rest is softmax and packing.
#include "attention_bf16.h"
#include "attention_pairs.h"
#include "kv_runs.h"

#if defined(MILLRACE_AVX512)
namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kRowBlock = 6, kVectors = 4;         // panels: 24 sums, 4 vectors, a broadcast
constexpr int64_t kSplitPairs = kAttentionSplit;   // words from one row of weights to the next

// Of a pair of keys, what lies within [begin, end).
MILLRACE_INLINE uint32_t seen(int key, int begin, int end) {
  return (key >= begin && key < end ? 0x0000ffffu : 0u) | (key + 1 >= begin && key + 1 < end ? 0xffff0000u : 0u);
}

template <int MR, int NR>
MILLRACE_INLINE void clear(Vec (&sums)[MR][NR]) {
  MILLRACE_UNROLL
  for (int m = 0; m < MR; m++) {
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) sums[m][j] = zero();
  }
}

// ---- panels

// K of keys [begin, end) of a tile: keys[i * kKeyTile + key] is elements 2i and 2i + 1. Lanes of other keys are unspecified.
template <class Storage>
void packKeys(const KeySource& source, int kvHead, int32_t tileStart, int32_t begin, int32_t end, uint32_t* keys, float* scales) {
  using Of = Pairs<Storage>;
  const KvLayer& cache = *source.cache;
  const int64_t rowStride = int64_t{cache.blockSize} * (2 / Storage::kPacked);
  const auto pack = [&](int32_t key, int32_t block, int32_t offset, int32_t count) {
    const uint8_t* parameters = keyParametersOf(cache, block, kvHead);
    for (int i = 0; i < count; i += kLanes) {
      const auto* from = reinterpret_cast<const typename Storage::Element*>(keysOf(cache, block, kvHead)) + offset + i;
      const auto lanes = firstLanes(smaller(kLanes, count - i));
      const auto zeros = Of::keyZeros(parameters, offset + i);
      uint32_t* to = keys + (key - tileStart) + i;
      if constexpr (Of::kScaled) _mm512_mask_storeu_ps(scales + (key - tileStart) + i, lanes, Of::scales(parameters, offset + i));
      for (int d = 0; d < cache.headDim; d += 2, from += rowStride, to += kKeyTile) {
        const bool isLast = d + 1 == cache.headDim;
        const Pair pair = Of::keys(from, isLast ? from : from + cache.blockSize, zeros);
        _mm512_mask_storeu_epi32(to, lanes, isLast ? only(pair, 0xffffu) : pair);
      }
    }
  };
  const int32_t tableBegin = larger(tileStart, begin - begin % cache.blockSize);
  const int32_t tableEnd = smaller(tileStart + kKeyTile, static_cast<int32_t>(roundUp(smaller(end, source.visibleEnd), cache.blockSize)));
  forTableRuns(source, tableBegin, tableEnd, pack);
  forAncestors(source, begin, end, pack);
}

// V of keys [begin, end) of a split: values[i * stride + d] is keys 2i and 2i + 1; zero for other keys of these pairs and from headDim up to stride.
template <class Storage>
void packValues(const KeySource& source, int kvHead, int32_t splitStart, int begin, int end, uint32_t* values, int64_t stride) {
  using Of = Pairs<Storage>;
  using Element = typename Storage::Element;
  const KvLayer& cache = *source.cache;
  const int64_t rowLength = (cache.headDim + Storage::kPacked - 1) / Storage::kPacked;
  struct Row {
    const Element* levels;
    const uint8_t* parameters;
    int64_t at;
  } rowsOfKeys[kAttentionSplit + 1];
  const auto place = [&](int32_t key, int32_t block, int32_t offset, int32_t count) {
    Row row{reinterpret_cast<const Element*>(valuesOf(cache, block, kvHead)) + offset * rowLength, valueParametersOf(cache, block, kvHead), offset};
    for (int32_t i = key - splitStart; i < key - splitStart + count; i++, row.levels += rowLength, row.at++) rowsOfKeys[i] = row;
  };
  forTableRuns(source, splitStart + begin, smaller(splitStart + end, source.visibleEnd), place);
  forAncestors(source, splitStart + begin, splitStart + end, place);
  if (begin % 2 != 0) rowsOfKeys[begin - 1] = rowsOfKeys[begin];
  if (end % 2 != 0) rowsOfKeys[end] = rowsOfKeys[end - 1];
  for (int key = begin / 2 * 2; key < end; key += 2) {
    const uint32_t mask = seen(key, begin, end);
    const Row &first = rowsOfKeys[key], &second = rowsOfKeys[key + 1];
    const auto zeros = Of::valueZeros(first.parameters, first.at, second.parameters, second.at);
    uint32_t* to = values + key / 2 * stride;
    int64_t d = 0;
    for (; d + kLanes <= cache.headDim; d += kLanes) _mm512_storeu_si512(to + d, only(Of::values(first.levels, second.levels, d, zeros), mask));
    for (; d < cache.headDim; d++) {
      const uint32_t low = f32ToBf16(Of::level(first.levels, d, first.parameters, first.at)), high = f32ToBf16(Of::level(second.levels, d, second.parameters, second.at));
      to[d] = (low | high << 16) & mask;
    }
    for (; d < stride; d++) to[d] = 0;
  }
}

struct ScoreBlock {
  const uint32_t* query;
  int64_t pairs;
  const uint32_t* keys;
  const float* scales;  // or null
  float* scores;

  template <int MR>
  MILLRACE_INLINE void run() {
    Vec sums[MR][kVectors];
    clear(sums);
    const uint32_t* k = keys;
    for (int64_t i = 0; i < pairs; i++, k += kKeyTile) {
      Pair right[kVectors];
      MILLRACE_UNROLL
      for (int j = 0; j < kVectors; j++) right[j] = _mm512_loadu_si512(k + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < kVectors; j++) sums[m][j] = dot(sums[m][j], right[j], query[m * pairs + i]);
      }
    }
    MILLRACE_UNROLL
    for (int j = 0; j < kVectors; j++) {
      const Vec scale = scales == nullptr ? zero() : load(scales + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) store(scores + m * kAttentionSplit + j * kLanes, scales == nullptr ? sums[m][j] : mul(sums[m][j], scale));
    }
  }
};

// Adds pairs [0, count) of weights times values to rows of output; only halves within `mask` (of one row and one pair).
struct OutputBlock {
  const uint32_t* weights;
  const uint32_t* values;
  int64_t stride;
  int count;
  uint32_t mask;
  float* output;

  template <int MR, int NR>
  MILLRACE_INLINE void columns(int64_t d) {
    Vec sums[MR][NR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = load(output + m * stride + d + j * kLanes);
    }
    const uint32_t* v = values + d;
    for (int i = 0; i < count; i++, v += stride) {
      Pair right[NR];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) right[j] = MR == 1 ? only(_mm512_loadu_si512(v + j * kLanes), mask) : _mm512_loadu_si512(v + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = dot(sums[m][j], right[j], weights[m * kSplitPairs + i]);
      }
    }
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

// Rows meet the pairs that all of them see whole together; each its own others before and after, so that every row adds its keys in order.
void outputRows(const ItemRows& rows, int first, int count, int32_t splitStart, const uint32_t* weights, const uint32_t* values, float* output) {
  KeyRange all = {0, kAttentionSplit}, ranges[kRowBlock];
  for (int m = 0; m < count; m++) {
    ranges[m] = rangeInSplit(rows, first + m, splitStart);
    all = {larger(all.begin, ranges[m].begin), smaller(all.end, ranges[m].end)};
  }
  all = {all.begin + (all.begin & 1), all.end & ~1};
  const auto add = [&](int m, int number, int begin, int end, uint32_t mask) {
    const int64_t row = first + m;
    OutputBlock kernel{weights + row * kSplitPairs + begin / 2, values + begin / 2 * rows.stride, rows.stride, (end - begin) / 2, mask, output + row * rows.stride};
    withRows<kRowBlock>(number, kernel);
  };
  const auto alone = [&](int m, int begin, int end) {
    for (int key = begin & ~1; key < end; key += 2) add(m, 1, key, key + 2, seen(key, ranges[m].begin, ranges[m].end));
  };
  if (all.begin >= all.end) {
    for (int m = 0; m < count; m++)
      if (ranges[m].begin < ranges[m].end) alone(m, ranges[m].begin, ranges[m].end);
    return;
  }
  for (int m = 0; m < count; m++) alone(m, ranges[m].begin, all.begin);
  add(0, count, all.begin, all.end, ~0u);
  for (int m = 0; m < count; m++) alone(m, all.end, ranges[m].end);
}

}  // namespace

void gatherQueryPairs(const ItemRows& rows, const SplitScratch& scratch) {
  const int headDim = rows.args.cache.headDim;
  const int64_t pairs = queryPairs(rows.args);
  for (int r = 0; r < rows.rows(); r++) {
    const float* from = rows.args.q.data + rows.token(r) * rows.args.q.stride + int64_t{rows.head(r)} * headDim;
    auto* to = reinterpret_cast<uint16_t*>(scratch.query) + r * pairs * 2;
    int d = 0;
    for (; d + kLanes <= headDim; d += kLanes) storeBf16(to + d, load(from + d));
    for (; d < headDim; d++) to[d] = f32ToBf16(from[d]);
    if (headDim % 2 != 0) to[headDim] = 0;
  }
}

void scorePairs(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch) {
  withPairStorage(rows.args.cache.dtype, [&](auto storage) {
    using Storage = decltype(storage);
    const KeySource source = keySource(rows);
    const int64_t pairs = queryPairs(rows.args);
    alignas(64) float scales[kKeyTile];
    auto* keys = reinterpret_cast<uint32_t*>(scratch.keys);
    for (int tile = begin / kKeyTile * kKeyTile; tile < end; tile += kKeyTile) {
      const int first = larger(begin, tile), last = smaller(end, tile + kKeyTile);
      packKeys<Storage>(source, rows.kvHead, splitStart + tile, splitStart + first, splitStart + last, keys, scales);
      forRowBlocks(rows.rows(), kRowBlock, [&](int row, int count) {
        ScoreBlock kernel{reinterpret_cast<const uint32_t*>(scratch.query) + row * pairs, pairs, keys, Pairs<Storage>::kScaled ? scales : nullptr,
                          scratch.scores + int64_t{row} * kAttentionSplit + tile};
        withRows<kRowBlock>(count, kernel);
      });
    }
  });
}

void outputPairs(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch, float* output) {
  withPairStorage(rows.args.cache.dtype, [&](auto storage) {
    using Storage = decltype(storage);
    const auto* weights = reinterpret_cast<const uint32_t*>(scratch.scores);
    auto* values = reinterpret_cast<uint32_t*>(scratch.values);
    packValues<Storage>(keySource(rows), rows.kvHead, splitStart, begin, end, values, rows.stride);
    std::memset(output, 0, static_cast<size_t>(rows.rows() * rows.stride) * 4);
    forRowBlocks(rows.rows(), kRowBlock, [&](int first, int count) { outputRows(rows, first, count, splitStart, weights, values, output); });
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
#endif
