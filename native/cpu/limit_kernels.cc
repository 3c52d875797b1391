// Loops that do nothing but read, or nothing but multiply and add; see limits.h. Sixteen accumulators hide the latency of any of the instructions.
#include "limits.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kAccumulators = 16;

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

// One instruction on each accumulator a round. Inline assembly, for gcc 12 spills the accumulators of these intrinsics.
#define MILLRACE_PEAK(name, instruction, operations)                                        \
  double name(int64_t rounds, float* sink) {                                                \
    __m512i sums[kAccumulators] = {};                                                       \
    const __m512i a = _mm512_setzero_si512(), b = _mm512_setzero_si512();                   \
    for (int64_t i = 0; i < rounds; i++) {                                                  \
      for (int j = 0; j < kAccumulators; j++)                                               \
        __asm__ volatile(instruction " %2, %1, %0" : "+v"(sums[j]) : "v"(a), "v"(b));       \
    }                                                                                       \
    for (int j = 0; j < kAccumulators; j++) sink[j] = static_cast<float>(_mm512_reduce_add_epi32(sums[j])); \
    return static_cast<double>(rounds) * kAccumulators * operations;                        \
  }
MILLRACE_PEAK(int8Peak, "vpdpbusd", 128)
MILLRACE_PEAK(bf16Peak, "vdpbf16ps", 64)
MILLRACE_PEAK(f32Peak, "vfmadd231ps", 32)
#undef MILLRACE_PEAK

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

// maddubs, madd, add: what an int8 dot product costs without VNNI.
double int8Peak(int64_t rounds, float* sink) {
  __m256i sums[8] = {};
  __m256i a = _mm256_setzero_si256();
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t i = 0; i < rounds; i++) {
    for (int j = 0; j < 8; j++) {
      __asm__ volatile("" : "+x"(a));
      sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), ones));
    }
  }
  for (int j = 0; j < 8; j++) sink[j] = static_cast<float>(_mm256_extract_epi32(sums[j], 0));
  return static_cast<double>(rounds) * 8 * 64;
}
constexpr double (*bf16Peak)(int64_t, float*) = nullptr;
double f32Peak(int64_t rounds, float* sink) {
  constexpr int kSums = 12;  // of 16 registers
  __m256 sums[kSums] = {};
  const __m256 a = _mm256_setzero_ps();
  for (int64_t i = 0; i < rounds; i++) {
    for (int j = 0; j < kSums; j++) __asm__ volatile("vfmadd231ps %1, %1, %0" : "+x"(sums[j]) : "x"(a));
  }
  for (int j = 0; j < kSums; j++) sink[j] = _mm256_cvtss_f32(sums[j]);
  return static_cast<double>(rounds) * kSums * 16;
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
