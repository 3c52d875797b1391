// Vectors of f32, the few operations that the kernels need, and conversions of the storage types. Compiled per instruction set: each set has its
// own namespace, so that code built with one set's flags is never linked into another's. For the same reason nothing here uses std templates.
//
// kLanes floats: 16 (AVX-512), 8 (AVX2 + FMA), 4 (NEON; portable: GCC or Clang vector extensions, which become SSE2 or plain code). NEON is portable code but for
// fused multiply-adds, f16, minimum and maximum, and integer dot products.
#pragma once

#include <cstdint>
#include <cstring>

#if !defined(MILLRACE_ISA)
#error "compile kernel sources with -DMILLRACE_ISA=portable|avx2|avxvnni|avx512|neon|neon_dotprod"
#endif

// On Armv8 the class tells: any compiler's default has ASIMD, and portable kernels are to stay portable.
#define MILLRACE_CLASS_portable 0
#define MILLRACE_CLASS_avx2 0
#define MILLRACE_CLASS_avxvnni 0
#define MILLRACE_CLASS_avx512 0
#define MILLRACE_CLASS_neon 1
#define MILLRACE_CLASS_neon_dotprod 1
#define MILLRACE_IS_ARM_OF(isa) MILLRACE_CLASS_##isa
#define MILLRACE_IS_ARM(isa) MILLRACE_IS_ARM_OF(isa)
#if MILLRACE_IS_ARM(MILLRACE_ISA)
#define MILLRACE_NEON 1
#include <arm_neon.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define MILLRACE_AVX512 1
#define MILLRACE_VNNI 1  // vpdpbusd: sums of four products of unsigned by signed bytes
#elif defined(__AVX2__)
#define MILLRACE_AVX2 1
#if defined(__AVXVNNI__)
#define MILLRACE_VNNI 1
#endif
#endif

#if defined(MILLRACE_AVX512) || defined(MILLRACE_AVX2)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 on its own AVX-512 header, where values are undefined on purpose
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#elif !defined(__GNUC__)
#error "the portable kernels need GCC or Clang (vector extensions)"
#endif

#if defined(__clang__)
#define MILLRACE_UNROLL _Pragma("unroll")
#define MILLRACE_INLINE inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define MILLRACE_UNROLL _Pragma("GCC unroll 32")
#define MILLRACE_INLINE inline __attribute__((always_inline))
#else
#define MILLRACE_UNROLL
#define MILLRACE_INLINE __forceinline
#endif

namespace millrace::cpu::MILLRACE_ISA {

template <class T> MILLRACE_INLINE T smaller(T a, T b) { return b < a ? b : a; }
template <class T> MILLRACE_INLINE T larger(T a, T b) { return a < b ? b : a; }
MILLRACE_INLINE int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
MILLRACE_INLINE int64_t roundUp(int64_t a, int64_t multiple) { return ceilDiv(a, multiple) * multiple; }

template <class To, class From> MILLRACE_INLINE To bitCast(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

// Reads through memory of another type, without alignment.
template <class T> MILLRACE_INLINE T readAs(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}

// Scalar conversions, exact or round to nearest even; NaN stays NaN.
MILLRACE_INLINE float bf16ToF32(uint16_t h) { return bitCast<float>(static_cast<uint32_t>(h) << 16); }
MILLRACE_INLINE uint16_t f32ToBf16(float f) {
  const uint32_t u = bitCast<uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
  return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
MILLRACE_INLINE float f16ToF32(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  // The f16 bits, moved to f32's places, are 2^112 too small; the product is exact, subnormals included.
  uint32_t u = bitCast<uint32_t>(bitCast<float>(magnitude << 13) * 0x1p112f);
  if (magnitude >= 0x7c00u) u = 0x7f800000u | ((magnitude & 0x3ffu) << 13) | (magnitude > 0x7c00u ? 0x400000u : 0u);
  return bitCast<float>(sign | u);
}
MILLRACE_INLINE uint16_t f32ToF16(float f) {
  const uint32_t u = bitCast<uint32_t>(f), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and up round to infinity
  if (magnitude < 0x38800000u) {                                               // subnormal: let the adder round at 2^-24
    const float aligned = bitCast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (bitCast<uint32_t>(aligned) - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13));
}

#if defined(MILLRACE_AVX512)

constexpr int kLanes = 16;
using Vec = __m512;
using VecI = __m512i;

MILLRACE_INLINE Vec zero() { return _mm512_setzero_ps(); }
MILLRACE_INLINE Vec set1(float a) { return _mm512_set1_ps(a); }
MILLRACE_INLINE Vec load(const float* p) { return _mm512_loadu_ps(p); }
MILLRACE_INLINE void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
MILLRACE_INLINE __mmask16 firstLanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
MILLRACE_INLINE Vec loadPartial(const float* p, int n) { return _mm512_maskz_loadu_ps(firstLanes(n), p); }
MILLRACE_INLINE void storePartial(float* p, Vec v, int n) { _mm512_mask_storeu_ps(p, firstLanes(n), v); }
MILLRACE_INLINE Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
MILLRACE_INLINE Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
MILLRACE_INLINE Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
MILLRACE_INLINE Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
MILLRACE_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
MILLRACE_INLINE Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
MILLRACE_INLINE Vec abs(Vec a) { return _mm512_abs_ps(a); }
MILLRACE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
MILLRACE_INLINE Vec selectLess(Vec x, Vec y, Vec a, Vec b) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a); }
MILLRACE_INLINE Vec asFloat(VecI a) { return _mm512_castsi512_ps(a); }
MILLRACE_INLINE VecI asInt(Vec a) { return _mm512_castps_si512(a); }
MILLRACE_INLINE VecI set1Int(int32_t a) { return _mm512_set1_epi32(a); }
MILLRACE_INLINE VecI loadInt(const void* p) { return _mm512_loadu_si512(p); }
MILLRACE_INLINE VecI addInt(VecI a, VecI b) { return _mm512_add_epi32(a, b); }
MILLRACE_INLINE VecI subInt(VecI a, VecI b) { return _mm512_sub_epi32(a, b); }
MILLRACE_INLINE VecI andInt(VecI a, VecI b) { return _mm512_and_si512(a, b); }
MILLRACE_INLINE VecI xorInt(VecI a, VecI b) { return _mm512_xor_si512(a, b); }
template <int N> MILLRACE_INLINE VecI shiftLeft(VecI a) { return _mm512_slli_epi32(a, N); }
template <int N> MILLRACE_INLINE VecI shiftRightSigned(VecI a) { return _mm512_srai_epi32(a, N); }
MILLRACE_INLINE Vec intToFloat(VecI a) { return _mm512_cvtepi32_ps(a); }
MILLRACE_INLINE Vec loadF16(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
MILLRACE_INLINE Vec loadBf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
MILLRACE_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

#elif defined(MILLRACE_AVX2)

constexpr int kLanes = 8;
using Vec = __m256;
using VecI = __m256i;

MILLRACE_INLINE Vec zero() { return _mm256_setzero_ps(); }
MILLRACE_INLINE Vec set1(float a) { return _mm256_set1_ps(a); }
MILLRACE_INLINE Vec load(const float* p) { return _mm256_loadu_ps(p); }
MILLRACE_INLINE void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
MILLRACE_INLINE __m256i firstLanes(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
MILLRACE_INLINE Vec loadPartial(const float* p, int n) { return _mm256_maskload_ps(p, firstLanes(n)); }
MILLRACE_INLINE void storePartial(float* p, Vec v, int n) { _mm256_maskstore_ps(p, firstLanes(n), v); }
MILLRACE_INLINE Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
MILLRACE_INLINE Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
MILLRACE_INLINE Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
MILLRACE_INLINE Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
MILLRACE_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
MILLRACE_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
MILLRACE_INLINE Vec abs(Vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
MILLRACE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
MILLRACE_INLINE Vec selectLess(Vec x, Vec y, Vec a, Vec b) { return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ)); }
MILLRACE_INLINE Vec asFloat(VecI a) { return _mm256_castsi256_ps(a); }
MILLRACE_INLINE VecI asInt(Vec a) { return _mm256_castps_si256(a); }
MILLRACE_INLINE VecI set1Int(int32_t a) { return _mm256_set1_epi32(a); }
MILLRACE_INLINE VecI loadInt(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
MILLRACE_INLINE VecI addInt(VecI a, VecI b) { return _mm256_add_epi32(a, b); }
MILLRACE_INLINE VecI subInt(VecI a, VecI b) { return _mm256_sub_epi32(a, b); }
MILLRACE_INLINE VecI andInt(VecI a, VecI b) { return _mm256_and_si256(a, b); }
MILLRACE_INLINE VecI xorInt(VecI a, VecI b) { return _mm256_xor_si256(a, b); }
template <int N> MILLRACE_INLINE VecI shiftLeft(VecI a) { return _mm256_slli_epi32(a, N); }
template <int N> MILLRACE_INLINE VecI shiftRightSigned(VecI a) { return _mm256_srai_epi32(a, N); }
MILLRACE_INLINE Vec intToFloat(VecI a) { return _mm256_cvtepi32_ps(a); }
MILLRACE_INLINE Vec loadF16(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE Vec loadBf16(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
MILLRACE_INLINE void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

#else

constexpr int kLanes = 4;
typedef float Vec __attribute__((vector_size(16)));
typedef int32_t VecI __attribute__((vector_size(16)));

MILLRACE_INLINE Vec set1(float a) { return Vec{a, a, a, a}; }
MILLRACE_INLINE Vec zero() { return set1(0.0f); }
MILLRACE_INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
MILLRACE_INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
MILLRACE_INLINE Vec loadPartial(const float* p, int n) {
  Vec v = zero();
  for (int i = 0; i < n && i < kLanes; i++) v[i] = p[i];
  return v;
}
MILLRACE_INLINE void storePartial(float* p, Vec v, int n) {
  for (int i = 0; i < n && i < kLanes; i++) p[i] = v[i];
}
MILLRACE_INLINE Vec asFloat(VecI a) { return bitCast<Vec>(a); }
MILLRACE_INLINE VecI asInt(Vec a) { return bitCast<VecI>(a); }
MILLRACE_INLINE VecI set1Int(int32_t a) { return VecI{a, a, a, a}; }
MILLRACE_INLINE VecI loadInt(const void* p) {
  VecI v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
MILLRACE_INLINE VecI addInt(VecI a, VecI b) { return a + b; }
MILLRACE_INLINE VecI subInt(VecI a, VecI b) { return a - b; }
MILLRACE_INLINE VecI andInt(VecI a, VecI b) { return a & b; }
MILLRACE_INLINE VecI xorInt(VecI a, VecI b) { return a ^ b; }
template <int N> MILLRACE_INLINE VecI shiftLeft(VecI a) { return a << N; }
template <int N> MILLRACE_INLINE VecI shiftRightSigned(VecI a) { return a >> N; }
MILLRACE_INLINE Vec intToFloat(VecI a) { return __builtin_convertvector(a, Vec); }
MILLRACE_INLINE Vec add(Vec a, Vec b) { return a + b; }
MILLRACE_INLINE Vec sub(Vec a, Vec b) { return a - b; }
MILLRACE_INLINE Vec mul(Vec a, Vec b) { return a * b; }
MILLRACE_INLINE Vec div(Vec a, Vec b) { return a / b; }
MILLRACE_INLINE Vec selectMask(VecI mask, Vec a, Vec b) { return asFloat((mask & asInt(a)) | (~mask & asInt(b))); }
MILLRACE_INLINE Vec selectLess(Vec x, Vec y, Vec a, Vec b) { return selectMask(x < y, a, b); }
MILLRACE_INLINE Vec max(Vec a, Vec b) { return selectMask(a > b, a, b); }
MILLRACE_INLINE Vec min(Vec a, Vec b) { return selectMask(a < b, a, b); }
MILLRACE_INLINE Vec abs(Vec a) { return asFloat(asInt(a) & set1Int(0x7fffffff)); }
#if defined(MILLRACE_NEON)
MILLRACE_INLINE Vec fma(Vec a, Vec b, Vec c) { return bitCast<Vec>(vfmaq_f32(bitCast<float32x4_t>(c), bitCast<float32x4_t>(a), bitCast<float32x4_t>(b))); }
#else
// Not fused: the baseline of a portable build may have no FMA. Still one fixed sequence, which is what reproducibility needs.
MILLRACE_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
#endif
MILLRACE_INLINE VecI loadHalves(const uint16_t* p) {
  typedef uint16_t Halves __attribute__((vector_size(8)));
  Halves halves;
  std::memcpy(&halves, p, sizeof(halves));
  return __builtin_convertvector(halves, VecI);
}
#if defined(MILLRACE_NEON)
MILLRACE_INLINE Vec loadF16(const uint16_t* p) { return bitCast<Vec>(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)))); }
#else
// As f16ToF32, except that a NaN keeps its bits; infinity and NaN get f32's exponent by OR.
MILLRACE_INLINE Vec loadF16(const uint16_t* p) {
  const VecI h = loadHalves(p), magnitude = (h & 0x7fff) << 13;
  const VecI special = (magnitude >= set1Int(0x7c00 << 13)) & 0x7f800000;
  return asFloat(((h & 0x8000) << 16) | asInt(asFloat(magnitude) * 0x1p112f) | special);
}
#endif
MILLRACE_INLINE Vec loadBf16(const uint16_t* p) { return asFloat(loadHalves(p) << 16); }
MILLRACE_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

#endif

MILLRACE_INLINE float firstLane(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  return lanes[0];
}

// Sum and maximum of all lanes in one fixed order (halves are folded), the same in every kernel of a set.
MILLRACE_INLINE float reduceAdd(Vec v) {
  alignas(64) float lanes[kLanes];
  store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] = lanes[i] + lanes[i + width];
  return lanes[0];
}
MILLRACE_INLINE float reduceMax(Vec v) {
  alignas(64) float lanes[kLanes];
  store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] = larger(lanes[i], lanes[i + width]);
  return lanes[0];
}

// e^x, at most about 1.5 ulp off where the result is normal; 0 below -104 (-infinity included), infinity above 89, NaN stays NaN.
// n = round(x / ln 2); e^x = 2^n * e^r with |r| <= ln 2 / 2, e^r by its Taylor series to r^7; ln 2 in two parts (Cody and Waite 1980).
MILLRACE_INLINE Vec exp(Vec x) {
  // max and min return their second operand when one is NaN, so the NaN goes through.
  x = min(set1(89.0f), max(set1(-104.0f), x));
  const Vec magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, which is then in the low bits
  const Vec shifted = fma(x, set1(1.44269504f), magic);
  const Vec n = sub(shifted, magic);
  const VecI i = subInt(asInt(shifted), asInt(magic));
  Vec r = fma(n, set1(-0.693145752f), x);
  r = fma(n, set1(-1.42860677e-6f), r);
  Vec p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  // 2^n in two factors, so that neither leaves the exponent range.
  const VecI half = shiftRightSigned<1>(i), rest = subInt(i, half);
  const Vec a = asFloat(shiftLeft<23>(addInt(half, set1Int(127)))), b = asFloat(shiftLeft<23>(addInt(rest, set1Int(127))));
  return mul(mul(p, a), b);
}

// tanh x. Below 1: Lambert's continued fraction to seven levels, as a quotient (error below 1e-8 of x); from 1 on: 1 - 2 / (e^2|x| + 1).
MILLRACE_INLINE Vec tanh(Vec x) {
  const Vec x2 = mul(x, x);
  const Vec over = fma(fma(add(x2, set1(378.0f)), x2, set1(17325.0f)), x2, set1(135135.0f));
  const Vec under = fma(fma(fma(set1(28.0f), x2, set1(3150.0f)), x2, set1(62370.0f)), x2, set1(135135.0f));
  const Vec magnitude = abs(x);
  const Vec large = sub(set1(1.0f), div(set1(2.0f), add(exp(add(magnitude, magnitude)), set1(1.0f))));
  const Vec signedLarge = selectLess(x, zero(), sub(zero(), large), large);
  return selectLess(magnitude, set1(1.0f), div(mul(x, over), under), signedLarge);
}

// bf16 and f16 stores of kLanes values, round to nearest even.
MILLRACE_INLINE void storeBf16(uint16_t* p, Vec v) {
#if defined(MILLRACE_AVX512)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), bitCast<__m256i>(_mm512_cvtneps_pbh(v)));
#else
  alignas(64) float lanes[kLanes];
  store(lanes, v);
  for (int i = 0; i < kLanes; i++) p[i] = f32ToBf16(lanes[i]);
#endif
}
MILLRACE_INLINE void storeF16(uint16_t* p, Vec v) {
#if defined(MILLRACE_AVX512)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(MILLRACE_AVX2)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(MILLRACE_NEON)
  vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(bitCast<float32x4_t>(v))));
#else
  for (int i = 0; i < kLanes; i++) p[i] = f32ToF16(v[i]);
#endif
}

}  // namespace millrace::cpu::MILLRACE_ISA
