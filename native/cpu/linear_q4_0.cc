// linear with q4_0 weights and int8 activations: y[t, n] = sum over groups g of 32 of sx[t, g] * sw[n, g] * (sum_{k in g} qx[t, k] * (nibble[n, k] - 8)).
//
// Nibbles stay unsigned: sums start at -8 * (sum of the group of x). One vector of stored bytes is two vectors of weights, of steps k.. and k + 16.., taken
// apart in registers; both meet all rows of the block. The sum of a group is exact; groups are added in order in f32, as in linear_q8_0.cc.
//   AVX-512   vpdpbusd    AVX2  vpmaddubsw of 15 * 127 at most: never saturates    portable  f32, exact
// int8-token has one scale per row: it joins after the sum of the segment. Work split: linear.cc.
//
// Measured (as in linear_bf16.cc): AVX-512, 1 row 93-97 % of the memory bandwidth (1.65 times the speed of q8_0), 8 rows 42-47 %, 32 rows 58-67 %, 128 rows and
// more 62-71 % of the vpdpbusd peak.
#include "linear_int8.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

#if defined(MILLRACE_AVX512)
using Nibbles = __m512i;
MILLRACE_INLINE Nibbles loadNibbles(const uint8_t* p) { return _mm512_loadu_si512(p); }
template <int kShift> MILLRACE_INLINE Nibbles takeNibbles(Nibbles v) { return _mm512_and_si512(_mm512_srli_epi16(v, kShift), _mm512_set1_epi8(15)); }
MILLRACE_INLINE Sum addNibbles(Sum sum, Nibbles w, const uint8_t* x) { return dot4(sum, w, x); }
#elif defined(MILLRACE_AVX2)
using Nibbles = __m256i;
MILLRACE_INLINE Nibbles loadNibbles(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
template <int kShift> MILLRACE_INLINE Nibbles takeNibbles(Nibbles v) { return _mm256_and_si256(_mm256_srli_epi16(v, kShift), _mm256_set1_epi8(15)); }
#if defined(MILLRACE_VNNI)
MILLRACE_INLINE Sum addNibbles(Sum sum, Nibbles w, const uint8_t* x) { return dot4(sum, w, x); }
#else
MILLRACE_INLINE Sum addNibbles(Sum sum, Nibbles w, const uint8_t* x) {
  const __m256i pairs = _mm256_maddubs_epi16(w, _mm256_set1_epi32(readAs<int32_t>(x)));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif
#else
using Nibbles = VecI;
MILLRACE_INLINE Nibbles loadNibbles(const uint8_t* p) { return loadInt(p); }
template <int kShift> MILLRACE_INLINE Nibbles takeNibbles(Nibbles v) { return andInt(shiftRightSigned<kShift>(v), set1Int(0x0f0f0f0f)); }
#if defined(MILLRACE_NEON)
MILLRACE_INLINE Sum addNibbles(Sum sum, Nibbles w, const uint8_t* x) { return dot4(sum, w, x); }
#else
MILLRACE_INLINE Sum addNibbles(Sum sum, Nibbles w, const uint8_t* x) {
  const int8_t* q = reinterpret_cast<const int8_t*>(x);
  const VecI mask = set1Int(15);
  sum = fma(intToFloat(andInt(w, mask)), set1(static_cast<float>(q[0])), sum);
  sum = fma(intToFloat(andInt(shiftRightSigned<8>(w), mask)), set1(static_cast<float>(q[1])), sum);
  sum = fma(intToFloat(andInt(shiftRightSigned<16>(w), mask)), set1(static_cast<float>(q[2])), sum);
  return fma(intToFloat(andInt(shiftRightSigned<24>(w), mask)), set1(static_cast<float>(q[3])), sum);
}
#endif
#endif

template <bool kTokenScale>
struct NibbleTile {
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec totals[MR][NR];
    startRows<MR, NR>(job, row, column, totals);
    Fetch fetch(job, block, column);
    fetchNextRows<MR>(job, row, block);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* group = job.weights;
    for (int g = 0; g < job.kCount / kQ8Group; g++, group += kQ4GroupBytes, x += kQ8Group) {
      Sum sums[MR][NR];
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = startSum(job.x.corrections[firstGroup + m * job.x.groups + g]);
      }
      fetch.scales();
      const uint8_t* w = group + kTileOutputs * 2 + column * 4;
      for (int k = 0; k < 16; k += 4, w += kStepBytes) {
        fetch.step();
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) {
          const Nibbles stored = loadNibbles(w + j * kLanes * 4), low = takeNibbles<0>(stored), high = takeNibbles<4>(stored);
          MILLRACE_UNROLL
          for (int m = 0; m < MR; m++) {
            sums[m][j] = addNibbles(sums[m][j], low, x + m * job.x.stride + k);
            sums[m][j] = addNibbles(sums[m][j], high, x + m * job.x.stride + k + 16);
          }
        }
      }
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        const Vec weightScale = loadF16(reinterpret_cast<const uint16_t*>(group) + column + j * kLanes);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) {
          const Vec scale = kTokenScale ? weightScale : mul(weightScale, set1(job.x.scales[firstGroup + m * job.x.groups + g]));
          totals[m][j] = fma(sumToFloat(sums[m][j]), scale, totals[m][j]);
        }
      }
    }
    finishTile<MR, NR>(job, row, column, totals);
  }
};

template <bool kTokenScale>
void runTile(const TileJob& job) {
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kInt8TileRows>(job.rowBegin, job.rowEnd, NibbleTile<kTokenScale>{job, column});
}

}  // namespace

TileKernel nibbleKernel(bool tokenScale) { return tokenScale ? runTile<true> : runTile<false>; }

}  // namespace millrace::cpu::MILLRACE_ISA
