// attention_direct.cc where queries and weights are bf16: dot products of pairs, made in registers (attention_pairs.h). The same bits as attention_bf16.cc.
//
// Of two rows of 32 elements, bf16 takes 2 loads and 2 shuffles, int8 and fp8 one load and 6 operations (a magnitude's two bytes by table), int4 10; then come
// 2 dot products for each query head. Measured on one thread of a Zen 5 server part beside other work, K and V in the second cache, 14 heads on 2 KV heads
// of 64 at 1,024 tokens: bf16 13 us (dot products alone 7), int8 16, fp8 16, int4 17, softmax 3 of each; before tables 18, 20, 25 and 22.
#include "attention_bf16.h"
#include "attention_direct_loops.h"
#include "attention_pairs.h"

#if defined(MILLRACE_AVX512)
namespace millrace::cpu::MILLRACE_ISA {
namespace {

template <class Storage>
struct PairTerms {
  using Of = Pairs<Storage>;
  using Element = typename Storage::Element;
  using Left = uint32_t;
  static constexpr int kPacked = Storage::kPacked, kLeft = 1;
  struct KeyParameters {
    typename Of::Zeros zeros[kPair];
    Vec scales[kPair];
  };
  template <int NR>
  struct Right {
    Pair pairs[NR];
  };
  static MILLRACE_INLINE KeyParameters keyParameters(const uint8_t* const* at) {
    return {{Of::keyZeros(at[0], 0), Of::keyZeros(at[1], 0)}, {Of::scales(at[0], 0), Of::scales(at[1], 0)}};
  }
  static MILLRACE_INLINE Vec scaled(Vec sum, const KeyParameters& given, int j) { return Of::kScaled ? mul(sum, given.scales[j]) : sum; }

  template <bool Together>
  static MILLRACE_INLINE void keys(const Element* first, const Element* second, int64_t blockSize, const KeyParameters& given, Right<kPair>& right) {
    Of::template twoKeys<Together>(first, second, blockSize, given.zeros, right.pairs);
  }
  template <int NR>
  static MILLRACE_INLINE void values(const Element* first, const Element* second, const uint8_t* parameters, int64_t at, Right<NR>& right) {
    const auto zeros = Of::valueZeros(parameters, at, parameters, at + 1);
    if constexpr (NR == 2) return Of::twoValues(first, second, zeros, right.pairs);
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) right.pairs[j] = Of::values(first, second, j * kLanes, zeros);
  }
  template <int MR, int NR>
  static MILLRACE_INLINE void multiply(Vec (&sums)[MR][NR], const Right<NR>& right, const uint32_t* left, int64_t stride) {
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = dot(sums[m][j], right.pairs[j], left[m * stride]);
    }
  }
  template <int MR, int NR>
  static MILLRACE_INLINE void multiplyOne(Vec (&sums)[MR][NR], const Right<NR>& right, const uint32_t* left, int64_t stride, bool isSecond) {
    Right<NR> one;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) one.pairs[j] = only(right.pairs[j], isSecond ? 0xffff0000u : 0x0000ffffu);
    multiply(sums, one, left, stride);
  }
};

}  // namespace

void scorePairsDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch) {
  withPairStorage(rows.args.cache.dtype, [&](auto storage) {
    directScores<PairTerms<decltype(storage)>>(rows, pieces, begin, end, reinterpret_cast<const uint32_t*>(scratch.query), queryPairs(rows.args), scratch.scores);
  });
}

void outputPairsDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch, float* output) {
  withPairStorage(rows.args.cache.dtype, [&](auto storage) {
    directOutput<PairTerms<decltype(storage)>>(rows, pieces, begin, end, reinterpret_cast<const uint32_t*>(scratch.scores), kAttentionSplit, output);
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
#endif
