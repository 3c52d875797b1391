// int8 dot products of four steps of K per lane, for linear_q8_0.cc, linear_q4_0.cc and linear_blocks.cc. Private to them.
//
//   AVX-512, AVX-VNNI   vpdpbusd: unsigned weights by signed x
//   AVX2                vpmaddubsw, vpmaddwd
//   NEON                sdot, or smull and pairwise additions: both of signed numbers
//   portable            f32, in which sums of a group are exact: they stay below 2^24. SSE2 has no 32-bit integer product
#pragma once

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
#elif defined(MILLRACE_VNNI)
using Sum = __m256i;
using Weights = __m256i;
MILLRACE_INLINE Sum startSum(int32_t correction) { return _mm256_set1_epi32(correction); }
MILLRACE_INLINE Weights prepare(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
MILLRACE_INLINE Sum dot4(Sum sum, Weights w, const uint8_t* x) { return _mm256_dpbusd_avx_epi32(sum, w, _mm256_set1_epi32(readAs<int32_t>(x))); }
MILLRACE_INLINE Vec sumToFloat(Sum sum) { return _mm256_cvtepi32_ps(sum); }
#elif defined(MILLRACE_AVX2)
using Sum = __m256i;
struct Weights {
  __m256i value, magnitude;
};
MILLRACE_INLINE Sum startSum(int32_t correction) { return _mm256_set1_epi32(correction); }
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
#elif defined(MILLRACE_NEON)
using Sum = VecI;
using Weights = VecI;
MILLRACE_INLINE Sum startSum(int32_t correction) { return set1Int(correction); }
MILLRACE_INLINE Weights prepare(const uint8_t* p) { return loadInt(p); }
MILLRACE_INLINE Sum dot4(Sum sum, Weights w, const uint8_t* x) {
  const int8x16_t a = bitCast<int8x16_t>(w), b = bitCast<int8x16_t>(set1Int(readAs<int32_t>(x)));
#if defined(__ARM_FEATURE_DOTPROD)
  return bitCast<Sum>(vdotq_s32(bitCast<int32x4_t>(sum), a, b));
#else
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b))), high = vpaddlq_s16(vmull_s8(vget_high_s8(a), vget_high_s8(b)));
  return bitCast<Sum>(vaddq_s32(bitCast<int32x4_t>(sum), vpaddq_s32(low, high)));
#endif
}
MILLRACE_INLINE Vec sumToFloat(Sum sum) { return intToFloat(sum); }
#else
using Sum = Vec;
struct Weights {
  Vec step[4];
};
MILLRACE_INLINE Sum startSum(int32_t correction) { return set1(static_cast<float>(correction)); }
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

// Adds kSteps times four steps of K: weights [kSteps][64][4] from w on, x rows `stride` bytes apart.
template <int MR, int kSteps>
MILLRACE_INLINE void dotSteps(Sum (&sums)[MR][kTileVectors], const uint8_t* w, const uint8_t* x, int64_t stride) {
#if defined(MILLRACE_AVX512) && defined(__GNUC__)
  if constexpr (MR == 3) {
    // Twelve sums, as many totals, four weights and x are 29 registers: GCC spills some of them, and then loads are the bound.
#define MILLRACE_ROW(a, b, c, d)                                                                                       \
  "vpdpbusd %%zmm31, %%zmm27, %" #a "\n\tvpdpbusd %%zmm31, %%zmm28, %" #b "\n\tvpdpbusd %%zmm31, %%zmm29, %" #c "\n\t" \
  "vpdpbusd %%zmm31, %%zmm30, %" #d "\n\t"
#define MILLRACE_STEP(step)                                                                                      \
  "vmovdqu64 " #step "*256(%[w]), %%zmm27\n\tvmovdqu64 " #step "*256+64(%[w]), %%zmm28\n\t"                      \
  "vmovdqu64 " #step "*256+128(%[w]), %%zmm29\n\tvmovdqu64 " #step "*256+192(%[w]), %%zmm30\n\t"                 \
  "vpbroadcastd " #step "*4(%[x]), %%zmm31\n\t" MILLRACE_ROW(0, 1, 2, 3)                                         \
  "vpbroadcastd " #step "*4(%[x],%[stride]), %%zmm31\n\t" MILLRACE_ROW(4, 5, 6, 7)                               \
  "vpbroadcastd " #step "*4(%[x],%[stride],2), %%zmm31\n\t" MILLRACE_ROW(8, 9, 10, 11)
#define MILLRACE_FOUR_STEPS(w_, x_)                                                                                            \
  asm(MILLRACE_STEP(0) MILLRACE_STEP(1) MILLRACE_STEP(2) MILLRACE_STEP(3)                                                      \
      : "+v"(sums[0][0]), "+v"(sums[0][1]), "+v"(sums[0][2]), "+v"(sums[0][3]), "+v"(sums[1][0]), "+v"(sums[1][1]), "+v"(sums[1][2]), \
        "+v"(sums[1][3]), "+v"(sums[2][0]), "+v"(sums[2][1]), "+v"(sums[2][2]), "+v"(sums[2][3])                                \
      : [w] "r"(w_), [x] "r"(x_), [stride] "r"(stride)                                                                          \
      : "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "memory")
    MILLRACE_FOUR_STEPS(w, x);
    if constexpr (kSteps == 8) MILLRACE_FOUR_STEPS(w + 4 * kStepBytes, x + 16);
#undef MILLRACE_FOUR_STEPS
#undef MILLRACE_STEP
#undef MILLRACE_ROW
    return;
  }
#endif
  for (int step = 0; step < kSteps; step++, w += kStepBytes, x += 4) {
    Weights weights[kTileVectors];
    MILLRACE_UNROLL
    for (int j = 0; j < kTileVectors; j++) weights[j] = prepare(w + j * kLanes * 4);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < kTileVectors; j++) sums[m][j] = dot4(sums[m][j], weights[j], x + m * stride);
    }
  }
}

}  // namespace
}  // namespace millrace::cpu::MILLRACE_ISA
