// The number types that K and V are stored in, for templates: vectors out of the cache (exact) and rows into it (nearest even).
//
// int8, fp8 and int4 keep a parameter beside each head of K and of V of a token: number = scale * (level - zero point). The scale has the 8 bits of a
// bf16, so the product is exact in f32, and no instruction set can differ. What a format is: src/backends/reference/kv-rounding.ts.
//   int8: levels -127..127, parameter bf16 scale.  fp8: E4M3, bf16 scale (a power of two).  int4: levels 0..15, two to a byte (the even one low),
//   parameter bf16 scale in the upper half of a word, zero point in the lower.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

// kLanes numbers from bytes: signed; unsigned; halves of bytes in order; E4M3, 2^8 too small.
#if defined(MILLRACE_AVX512)
MILLRACE_INLINE Vec widenInt8(const int8_t* p) { return intToFloat(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))); }
MILLRACE_INLINE VecI widenByte(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE Vec widenNibbles(const uint8_t* p) {
  const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), mask = _mm_set1_epi8(15);
  return intToFloat(_mm512_cvtepu8_epi32(_mm_unpacklo_epi8(_mm_and_si128(x, mask), _mm_and_si128(_mm_srli_epi16(x, 4), mask))));
}
MILLRACE_INLINE Vec widenE4m3(const uint8_t* p) {
  const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_cvtph_ps(_mm256_and_si256(_mm256_slli_epi16(x, 7), _mm256_set1_epi16(-0x4001)));
}
#elif defined(MILLRACE_AVX2)
MILLRACE_INLINE Vec widenInt8(const int8_t* p) { return intToFloat(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))); }
MILLRACE_INLINE VecI widenByte(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE Vec widenNibbles(const uint8_t* p) {
  const __m128i x = _mm_cvtsi32_si128(readAs<int32_t>(p)), mask = _mm_set1_epi8(15);
  return intToFloat(_mm256_cvtepu8_epi32(_mm_unpacklo_epi8(_mm_and_si128(x, mask), _mm_and_si128(_mm_srli_epi16(x, 4), mask))));
}
MILLRACE_INLINE Vec widenE4m3(const uint8_t* p) {
  const __m128i x = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_cvtph_ps(_mm_and_si128(_mm_slli_epi16(x, 7), _mm_set1_epi16(-0x4001)));
}
#else
MILLRACE_INLINE Vec widenInt8(const int8_t* p) { return intToFloat(VecI{p[0], p[1], p[2], p[3]}); }
MILLRACE_INLINE VecI widenByte(const uint8_t* p) { return VecI{p[0], p[1], p[2], p[3]}; }
MILLRACE_INLINE Vec widenNibbles(const uint8_t* p) { return intToFloat(VecI{p[0] & 15, p[0] >> 4, p[1] & 15, p[1] >> 4}); }
MILLRACE_INLINE Vec widenE4m3(const uint8_t* p) {
  const VecI x = widenByte(p);
  return asFloat(((x & 0x80) << 24) | asInt(asFloat((x & 0x7f) << 20) * 0x1p112f));
}
#endif

// Types that store a number as it is: Type has Element, widen, widenOne, round, roundOne.
template <class Type>
struct Plain {
  using Element = typename Type::Element;
  struct Scale {};
  static constexpr int kPacked = 1;  // numbers in an Element
  // kLanes numbers of a row of V from d on (a multiple of kPacked), or of a row of K (part d % kPacked of its Elements), as levels.
  static MILLRACE_INLINE Vec values(const Element* row, int64_t d) { return Type::widen(row + d); }
  static MILLRACE_INLINE Vec keys(const Element* row, int) { return Type::widen(row); }
  static MILLRACE_INLINE float one(const Element* row, int64_t d) { return Type::widenOne(row[d]); }
  // Of kLanes tokens from `at` on; of one.
  static MILLRACE_INLINE Scale scalesAt(const uint8_t*, int64_t) { return {}; }
  static MILLRACE_INLINE Scale scaleAt(const uint8_t*, int64_t) { return {}; }
  static MILLRACE_INLINE Vec scaled(Vec v, const Scale&) { return v; }
  // Rounds n numbers into a row, with parameter number `at`.
  static MILLRACE_INLINE void encode(const float* x, int n, Element* out, uint8_t*, int64_t) {
    int i = 0;
    for (; i + kLanes <= n; i += kLanes) Type::round(out + i, load(x + i));
    for (; i < n; i++) out[i] = Type::roundOne(x[i]);
  }
};

struct F32Type {
  using Element = float;
  static MILLRACE_INLINE Vec widen(const float* p) { return load(p); }
  static MILLRACE_INLINE float widenOne(float x) { return x; }
  static MILLRACE_INLINE void round(float* p, Vec v) { store(p, v); }
  static MILLRACE_INLINE float roundOne(float x) { return x; }
};
struct F16Type {
  using Element = uint16_t;
  static MILLRACE_INLINE Vec widen(const uint16_t* p) { return loadF16(p); }
  static MILLRACE_INLINE float widenOne(uint16_t x) { return f16ToF32(x); }
  static MILLRACE_INLINE void round(uint16_t* p, Vec v) { storeF16(p, v); }
  static MILLRACE_INLINE uint16_t roundOne(float x) { return f32ToF16(x); }
};
struct Bf16Type {
  using Element = uint16_t;
  static MILLRACE_INLINE Vec widen(const uint16_t* p) { return loadBf16(p); }
  static MILLRACE_INLINE float widenOne(uint16_t x) { return bf16ToF32(x); }
  static MILLRACE_INLINE void round(uint16_t* p, Vec v) { storeBf16(p, v); }
  static MILLRACE_INLINE uint16_t roundOne(float x) { return f32ToBf16(x); }
};

constexpr uint32_t kInfinityBits = 0x7f800000u;
constexpr uint16_t kNanScale = 0x7fc0;  // of a row that is not finite throughout: all of it reads as NaN

// Bits of the largest magnitude; those of a NaN are above all others.
MILLRACE_INLINE uint32_t largestBits(const float* x, int n) {
  uint32_t largest = 0;
  for (int i = 0; i < n; i++) largest = larger(largest, bitCast<uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer (ties to even), which is then in the low bits

// levels[i] = round(x[i] / scale), within +-bound. Up to a vector more is written.
MILLRACE_INLINE void roundLevels(const float* x, int n, float scale, float bound, int32_t* levels) {
  for (int i = 0; i < n; i += kLanes) {
    const Vec v = n - i >= kLanes ? load(x + i) : loadPartial(x + i, n - i);
    const Vec level = add(min(set1(bound), max(set1(-bound), div(v, set1(scale)))), set1(kRounder));
    store(reinterpret_cast<float*>(levels) + i, asFloat(subInt(asInt(level), asInt(set1(kRounder)))));
  }
}

struct Int8Storage {
  using Element = int8_t;
  struct Scale {
    Vec scale;
  };
  static constexpr int kPacked = 1;
  static MILLRACE_INLINE Vec values(const int8_t* row, int64_t d) { return widenInt8(row + d); }
  static MILLRACE_INLINE Vec keys(const int8_t* row, int) { return widenInt8(row); }
  static MILLRACE_INLINE float one(const int8_t* row, int64_t d) { return row[d]; }
  static MILLRACE_INLINE Scale scalesAt(const uint8_t* parameters, int64_t at) { return {loadBf16(reinterpret_cast<const uint16_t*>(parameters) + at)}; }
  static MILLRACE_INLINE Scale scaleAt(const uint8_t* parameters, int64_t at) { return {set1(bf16ToF32(reinterpret_cast<const uint16_t*>(parameters)[at]))}; }
  static MILLRACE_INLINE Vec scaled(Vec v, const Scale& s) { return mul(v, s.scale); }
  static MILLRACE_INLINE void encode(const float* x, int n, int8_t* out, uint8_t* parameters, int64_t at) {
    const uint32_t largest = largestBits(x, n);
    const uint16_t scale = largest >= kInfinityBits ? kNanScale : f32ToBf16(bitCast<float>(largest) / 127.0f);
    reinterpret_cast<uint16_t*>(parameters)[at] = scale;
    if (scale == 0 || scale == kNanScale) return static_cast<void>(std::memset(out, 0, static_cast<size_t>(n)));
    alignas(64) int32_t levels[kMaxHeadDim];
    roundLevels(x, n, bf16ToF32(scale), 127.0f, levels);
    for (int i = 0; i < n; i++) out[i] = static_cast<int8_t>(levels[i]);
  }
};

// E4M3 nearest to y, ties to even, saturating; y is no NaN.
MILLRACE_INLINE uint8_t f32ToE4m3(float y) {
  const uint32_t u = bitCast<uint32_t>(y), sign = (u >> 24) & 0x80u, magnitude = u & 0x7fffffffu;
  const uint32_t subnormal = bitCast<uint32_t>(bitCast<float>(magnitude) * 512.0f + kRounder) - bitCast<uint32_t>(kRounder);  // below 2^-6: steps of 2^-9
  const uint32_t normal = ((magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) >> 20) - (120u << 3);
  return static_cast<uint8_t>(sign | (magnitude >= 0x43e00000u ? 126u : magnitude < 0x3c800000u ? subnormal : normal));
}

struct Fp8Storage {
  using Element = uint8_t;
  using Scale = Int8Storage::Scale;
  static constexpr int kPacked = 1;
  static MILLRACE_INLINE Vec values(const uint8_t* row, int64_t d) { return widenE4m3(row + d); }
  static MILLRACE_INLINE Vec keys(const uint8_t* row, int) { return widenE4m3(row); }
  static MILLRACE_INLINE float one(const uint8_t* row, int64_t d) { return f16ToF32(static_cast<uint16_t>(((row[d] & 0x80) << 8) | ((row[d] & 0x7f) << 7))); }
  static MILLRACE_INLINE Scale scalesAt(const uint8_t* parameters, int64_t at) { return {mul(Int8Storage::scalesAt(parameters, at).scale, set1(256.0f))}; }
  static MILLRACE_INLINE Scale scaleAt(const uint8_t* parameters, int64_t at) { return {mul(Int8Storage::scaleAt(parameters, at).scale, set1(256.0f))}; }
  static MILLRACE_INLINE Vec scaled(Vec v, const Scale& s) { return mul(v, s.scale); }
  static MILLRACE_INLINE void encode(const float* x, int n, uint8_t* out, uint8_t* parameters, int64_t at) {
    const uint32_t largest = largestBits(x, n);
    // the least power of two, normal and below 2^120, that brings the largest magnitude to 448 = 1.75 * 2^8 or below
    const uint32_t exponent = smaller(254u, (largest + 0x1fffffu) >> 23), biased = exponent > 9 ? exponent - 8 : 1;
    const uint16_t scale = largest >= kInfinityBits ? kNanScale : static_cast<uint16_t>(biased << 7);
    reinterpret_cast<uint16_t*>(parameters)[at] = scale;
    if (scale == kNanScale) return static_cast<void>(std::memset(out, 0, static_cast<size_t>(n)));
    const float divisor = bf16ToF32(scale);
    for (int i = 0; i < n; i++) out[i] = f32ToE4m3(x[i] / divisor);
  }
};

struct Int4Storage {
  using Element = uint8_t;
  struct Scale {
    Vec scale, zero;
  };
  static constexpr int kPacked = 2;
  static MILLRACE_INLINE Vec values(const uint8_t* row, int64_t d) { return widenNibbles(row + d / 2); }
  static MILLRACE_INLINE Vec keys(const uint8_t* row, int part) {
    const VecI x = widenByte(row);
    return intToFloat(part == 0 ? andInt(x, set1Int(15)) : shiftRightSigned<4>(x));
  }
  static MILLRACE_INLINE float one(const uint8_t* row, int64_t d) { return static_cast<float>((row[d / 2] >> (d % 2 * 4)) & 15); }
  static MILLRACE_INLINE Scale scaleOf(VecI words) {
    return {asFloat(andInt(words, set1Int(static_cast<int32_t>(0xffff0000u)))), intToFloat(andInt(words, set1Int(0xffff)))};
  }
  static MILLRACE_INLINE Scale scalesAt(const uint8_t* parameters, int64_t at) { return scaleOf(loadInt(parameters + 4 * at)); }
  static MILLRACE_INLINE Scale scaleAt(const uint8_t* parameters, int64_t at) { return scaleOf(set1Int(readAs<int32_t>(parameters + 4 * at))); }
  static MILLRACE_INLINE Vec scaled(Vec v, const Scale& s) { return mul(sub(v, s.zero), s.scale); }
  static MILLRACE_INLINE void encode(const float* x, int n, uint8_t* out, uint8_t* parameters, int64_t at) {
    const bool isFinite = largestBits(x, n) < kInfinityBits;
    Vec lows = zero(), highs = zero();  // zero is always within the range
    for (int i = 0; i < n; i += kLanes) {
      const Vec v = n - i >= kLanes ? load(x + i) : loadPartial(x + i, n - i);
      lows = max(lows, sub(zero(), v));
      highs = max(highs, v);
    }
    const float low = reduceMax(lows), high = reduceMax(highs);  // of -x, of x
    const uint16_t scaleBits = isFinite ? f32ToBf16(high / 15.0f + low / 15.0f) : kNanScale;
    const float scale = bf16ToF32(scaleBits);
    const bool isEmpty = !isFinite || scaleBits == 0;
    const int32_t point = isEmpty ? 0 : static_cast<int32_t>(bitCast<uint32_t>(smaller(low / scale, 15.0f) + kRounder) - bitCast<uint32_t>(kRounder));
    const uint32_t word = static_cast<uint32_t>(scaleBits) << 16 | static_cast<uint32_t>(point);
    std::memcpy(parameters + 4 * at, &word, 4);
    if (isEmpty) return static_cast<void>(std::memset(out, 0, static_cast<size_t>((n + 1) / 2)));
    alignas(64) int32_t levels[kMaxHeadDim + 1];
    roundLevels(x, n, scale, 15.0f, levels);
    levels[n] = 0;
    for (int i = 0; i < n; i++) levels[i] = larger(0, smaller(15, levels[i] + point));
    for (int i = 0; i < n; i += 2) out[i / 2] = static_cast<uint8_t>(levels[i] | levels[i + 1] << 4);
  }
};

// Calls f with the storage of a dtype.
template <class F>
MILLRACE_INLINE void withStorage(KvDtype dtype, F&& f) {
  switch (dtype) {
    case KvDtype::f32: return f(Plain<F32Type>{});
    case KvDtype::f16: return f(Plain<F16Type>{});
    case KvDtype::bf16: return f(Plain<Bf16Type>{});
    case KvDtype::int8: return f(Int8Storage{});
    case KvDtype::fp8: return f(Fp8Storage{});
    case KvDtype::int4: return f(Int4Storage{});
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
