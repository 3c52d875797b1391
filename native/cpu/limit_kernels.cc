// Loops that do nothing but read, or nothing but multiply and add; see limits.h. Ten accumulators and more hide the latency of any of the instructions.
#include "limits.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace millrace::cpu::MILLRACE_ISA {
namespace {

#if defined(__AVX512F__)

uint64_t read(const uint8_t* data, size_t bytes) {
  __m512i sums[8] = {};
  for (size_t i = 0; i < bytes; i += 512) {
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 4096), _MM_HINT_T0);
    for (int j = 0; j < 8; j++) sums[j] = _mm512_add_epi64(sums[j], _mm512_load_si512(data + i + 64 * j));
  }
  for (int j = 1; j < 8; j++) sums[0] = _mm512_add_epi64(sums[0], sums[j]);
  return static_cast<uint64_t>(_mm512_reduce_add_epi64(sums[0]));
}

// One instruction on each of twelve accumulators a round, in one piece of assembly: the compiler would keep an array of them in memory.
#define MILLRACE_STEP(instruction, i) instruction " %13, %12, %" #i "\n\t"
#define MILLRACE_PEAK(name, instruction, operations)                                                                                                 \
  double name(int64_t rounds, float* sink) {                                                                                                         \
    const __m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();                                                                             \
    __m512i s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a, s10 = a, s11 = a;                                          \
    for (int64_t i = 0; i < rounds; i++) {                                                                                                           \
      __asm__ volatile(MILLRACE_STEP(instruction, 0) MILLRACE_STEP(instruction, 1) MILLRACE_STEP(instruction, 2) MILLRACE_STEP(instruction, 3)       \
                           MILLRACE_STEP(instruction, 4) MILLRACE_STEP(instruction, 5) MILLRACE_STEP(instruction, 6) MILLRACE_STEP(instruction, 7)   \
                               MILLRACE_STEP(instruction, 8) MILLRACE_STEP(instruction, 9) MILLRACE_STEP(instruction, 10) MILLRACE_STEP(instruction, 11) \
                       : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8), "+v"(s9), "+v"(s10), "+v"(s11)      \
                       : "v"(a), "v"(b));                                                                                                            \
    }                                                                                                                                                \
    const __m512i sums[] = {s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11};                                                                        \
    for (int j = 0; j < 12; j++) sink[j] = static_cast<float>(_mm512_reduce_add_epi32(sums[j]));                                                     \
    return static_cast<double>(rounds) * 12 * operations;                                                                                            \
  }
MILLRACE_PEAK(int8Peak, "vpdpbusd", 128)
MILLRACE_PEAK(bf16Peak, "vdpbf16ps", 64)
MILLRACE_PEAK(f32Peak, "vfmadd231ps", 32)
#undef MILLRACE_PEAK
#undef MILLRACE_STEP

#elif defined(__AVX2__)

uint64_t read(const uint8_t* data, size_t bytes) {
  __m256i sums[8] = {};
  for (size_t i = 0; i < bytes; i += 256) {
    _mm_prefetch(reinterpret_cast<const char*>(data + i + 4096), _MM_HINT_T0);
    for (int j = 0; j < 8; j++) sums[j] = _mm256_add_epi64(sums[j], _mm256_load_si256(reinterpret_cast<const __m256i*>(data + i + 32 * j)));
  }
  for (int j = 1; j < 8; j++) sums[0] = _mm256_add_epi64(sums[0], sums[j]);
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums[0]);
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

// vpdpbusd, or maddubs, madd, add: what an int8 dot product costs without VNNI.
double int8Peak(int64_t rounds, float* sink) {
  __m256i sums[8] = {};
  __m256i a = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      __asm__ volatile("" : "+x"(a));  // or the product would be worked out once
#if defined(__AVXVNNI__)
      (void)ones;
      sums[j] = _mm256_dpbusd_avx_epi32(sums[j], a, a);
#else
      sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), ones));
#endif
    }
  }
  for (int j = 0; j < 8; j++) sink[j] = static_cast<float>(_mm256_extract_epi32(sums[j], 0));
  return static_cast<double>(rounds) * 8 * 64;
}
constexpr double (*bf16Peak)(int64_t, float*) = nullptr;
double f32Peak(int64_t rounds, float* sink) {
  const __m256 a = _mm256_setzero_ps();
  __m256 s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a;
  for (int64_t i = 0; i < rounds; i++) {
#define MILLRACE_STEP(i) "vfmadd231ps %10, %10, %" #i "\n\t"
    __asm__ volatile(MILLRACE_STEP(0) MILLRACE_STEP(1) MILLRACE_STEP(2) MILLRACE_STEP(3) MILLRACE_STEP(4) MILLRACE_STEP(5) MILLRACE_STEP(6)
                         MILLRACE_STEP(7) MILLRACE_STEP(8) MILLRACE_STEP(9)
                     : "+x"(s0), "+x"(s1), "+x"(s2), "+x"(s3), "+x"(s4), "+x"(s5), "+x"(s6), "+x"(s7), "+x"(s8), "+x"(s9)
                     : "x"(a));
#undef MILLRACE_STEP
  }
  const __m256 sums[] = {s0, s1, s2, s3, s4, s5, s6, s7, s8, s9};
  for (int j = 0; j < 10; j++) sink[j] = _mm256_cvtss_f32(sums[j]);
  return static_cast<double>(rounds) * 10 * 16;
}

#else

uint64_t read(const uint8_t* data, size_t bytes) {
  uint64_t sums[8] = {};
  const uint64_t* words = reinterpret_cast<const uint64_t*>(data);
  for (size_t i = 0; i < bytes / 8; i += 8)
    for (int j = 0; j < 8; j++) sums[j] += words[i + static_cast<size_t>(j)];
  uint64_t sum = 0;
  for (int j = 0; j < 8; j++) sum += sums[j];
  return sum;
}
constexpr int kAccumulators = 16;
constexpr double (*int8Peak)(int64_t, float*) = nullptr;
constexpr double (*bf16Peak)(int64_t, float*) = nullptr;
double f32Peak(int64_t rounds, float* sink) {
  float sums[kAccumulators] = {};
  for (int64_t i = 0; i < rounds; i++) {
    for (int j = 0; j < kAccumulators; j++) sums[j] = sums[j] * 0.5f + sink[j];
  }
  for (int j = 0; j < kAccumulators; j++) sink[j] = sums[j];
  return static_cast<double>(rounds) * kAccumulators * 2;
}

#endif

}  // namespace

const LimitKernels& limitKernels() {
  static const LimitKernels kernels = {read, int8Peak, bf16Peak, f32Peak};
  return kernels;
}

}  // namespace millrace::cpu::MILLRACE_ISA
