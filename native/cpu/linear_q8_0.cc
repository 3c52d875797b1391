// linear with q8_0 weights and int8 activations: y[t, n] = sum over groups g of 32 of sx[t, g] * sw[n, g] * (sum_{k in g} qx[t, k] * qw[n, k]).
//
// The sum of a group is exact in int32; the groups of a segment are then added in order in f32, as fma(f32(sum), sx * sw, total).
//   AVX-512   vpdpbusd: weights stored + 128 (unsigned) by signed x; sums start at -128 * (sum of the group of x)
//   AVX2      |w| by x with w's sign: pairs stay below 2 * 128 * 127 = 32512, so vpmaddubsw never saturates
//   portable  f32, in which these sums are exact
// int8-token has one scale per row: it joins after the sum of the segment. Work split: linear.cc. Two or three FP operations per eight
// vpdpbusd put the ceiling at about 80 % of the int8 peak.
// Measured (as in linear_bf16.cc): AVX-512, 128 rows and more: 58-65 % of the vpdpbusd peak (1045 GOP/s), 32 rows 53-61 %, 8 rows 35-39 % (26 GB/s of
// weights); AVX2 60 % of twice its f32 peak. Totals kept in memory to free registers for a 6 x 4 tile were slower (50-55 %).
#include "linear.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

#if defined(MILLRACE_AVX512)
using Sum = __m512i;
using Weights = __m512i;
MILLRACE_INLINE Sum startSum(int32_t correction) { return _mm512_set1_epi32(correction); }
MILLRACE_INLINE Weights prepare(const uint8_t* p) {
  Weights w = _mm512_loadu_si512(p);
#if defined(__GNUC__)
  asm("" : "+v"(w));  // or GCC loads it again for every row, and loads become the bound
#endif
  return w;
}
MILLRACE_INLINE Sum dot4(Sum sum, Weights w, const uint8_t* x) {
  const __m512i broadcast = _mm512_set1_epi32(readAs<int32_t>(x));
#if defined(__GNUC__)
  // GCC 12 moves the intrinsic's sums to the stack in large tiles, at half the speed.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(broadcast));
  return sum;
#else
  return _mm512_dpbusd_epi32(sum, w, broadcast);
#endif
}
MILLRACE_INLINE Vec sumToFloat(Sum sum) { return _mm512_cvtepi32_ps(sum); }
#elif defined(MILLRACE_AVX2)
using Sum = __m256i;
struct Weights {
  __m256i value, magnitude;
};
MILLRACE_INLINE Sum startSum(int32_t) { return _mm256_setzero_si256(); }
MILLRACE_INLINE Weights prepare(const uint8_t* p) {
  const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {value, _mm256_abs_epi8(value)};
}
MILLRACE_INLINE Sum dot4(Sum sum, Weights w, const uint8_t* x) {
  const __m256i broadcast = _mm256_set1_epi32(readAs<int32_t>(x));
  const __m256i pairs = _mm256_maddubs_epi16(w.magnitude, _mm256_sign_epi8(broadcast, w.value));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
MILLRACE_INLINE Vec sumToFloat(Sum sum) { return _mm256_cvtepi32_ps(sum); }
#else
// In f32, which is exact here: sums of 32 products stay below 2^24. SSE2 has no 32-bit integer product.
using Sum = Vec;
struct Weights {
  Vec step[4];
};
MILLRACE_INLINE Sum startSum(int32_t) { return zero(); }
MILLRACE_INLINE Weights prepare(const uint8_t* p) {
  const VecI q = loadInt(p);
  return {{intToFloat(shiftRightSigned<24>(shiftLeft<24>(q))), intToFloat(shiftRightSigned<24>(shiftLeft<16>(q))),
           intToFloat(shiftRightSigned<24>(shiftLeft<8>(q))), intToFloat(shiftRightSigned<24>(q))}};
}
MILLRACE_INLINE Sum dot4(Sum sum, const Weights& w, const uint8_t* x) {
  const int8_t* q = reinterpret_cast<const int8_t*>(x);
  MILLRACE_UNROLL
  for (int s = 0; s < 4; s++) sum = fma(w.step[s], set1(static_cast<float>(q[s])), sum);
  return sum;
}
MILLRACE_INLINE Vec sumToFloat(Sum sum) { return sum; }
#endif

template <bool kTokenScale>
struct Int8Tile {
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec totals[MR][NR];
    startRows<MR, NR>(job, row, column, totals);
    Fetch fetch(job, block, column);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* group = job.weights;
    for (int g = 0; g < job.kCount / kQ8Group; g++, group += kQ8GroupBytes, x += kQ8Group) {
      Sum sums[MR][NR];
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = startSum(job.x.corrections[firstGroup + m * job.x.groups + g]);
      }
      addGroup<MR>(group + kTileOutputs * 2 + column * 4, x, fetch, sums);
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
    if (job.to != nullptr) return putRows<MR, NR>(job, row, column, totals);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      if (kTokenScale) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) totals[m][j] = mul(totals[m][j], set1(job.x.scales[row + m]));
      }
      finishRow<NR>(job, row + m, column, totals[m]);
    }
  }

  // Exact sums of a group of K.
  template <int MR>
  MILLRACE_INLINE void addGroup(const uint8_t* w, const uint8_t* x, Fetch& fetch, Sum (&sums)[MR][kTileVectors]) {
    for (int k = 0; k < kQ8Group; k += 4, w += kStepBytes) {
      Weights weights[kTileVectors];
      MILLRACE_UNROLL
      for (int j = 0; j < kTileVectors; j++) weights[j] = prepare(w + j * kLanes * 4);
      fetch.step();
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < kTileVectors; j++) sums[m][j] = dot4(sums[m][j], weights[j], x + m * job.x.stride + k);
      }
    }
  }
};

template <bool kTokenScale>
void runTile(const TileJob& job) {
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kInt8TileRows>(job.rowBegin, job.rowEnd, Int8Tile<kTokenScale>{job, column});
}

}  // namespace

TileKernel int8Kernel(bool tokenScale) { return tokenScale ? runTile<true> : runTile<false>; }

}  // namespace millrace::cpu::MILLRACE_ISA
