// K and V as pairs of bf16, two to a lane, as vdpbf16ps takes them: two elements of a key, or one element of two keys. AVX-512. Private to attention_bf16.cc.
//
// Levels of int8, fp8 and int4 (less the zero point) are bf16 numbers, so nothing is lost; scales stay outside: those of K multiply scores, those of V weights.
#pragma once

#include "kv_storage.h"

#if defined(MILLRACE_AVX512)
namespace millrace::cpu::MILLRACE_ISA {

using Pair = __m512i;

// Lane i is `low` lane i beside `high` lane i; the lower halves of both are dropped, which must be zero.
MILLRACE_INLINE Pair pairOf(Vec low, Vec high) { return _mm512_mask_blend_epi16(0xaaaaaaaau, _mm512_srli_epi32(asInt(low), 16), asInt(high)); }

template <class Storage>
struct Pairs;

template <>
struct Pairs<Plain<Bf16Type>> {
  static constexpr bool kScaled = false;
  struct Zeros {};
  static MILLRACE_INLINE Zeros keyZeros(const uint8_t*, int64_t) { return {}; }
  static MILLRACE_INLINE Zeros valueZeros(const uint8_t*, int64_t, const uint8_t*, int64_t) { return {}; }
  static MILLRACE_INLINE Vec scales(const uint8_t*, int64_t) { return set1(1.0f); }
  // Elements d (at row) and d + 1 (at next) of kLanes keys.
  static MILLRACE_INLINE Pair keys(const uint16_t* row, const uint16_t* next, const Zeros&) { return interleaved(row, next); }
  // kLanes elements from d on of two keys.
  static MILLRACE_INLINE Pair values(const uint16_t* first, const uint16_t* second, int64_t d, const Zeros&) { return interleaved(first + d, second + d); }
  static MILLRACE_INLINE float level(const uint16_t* row, int64_t d, const uint8_t*, int64_t) { return bf16ToF32(row[d]); }

 private:
  static MILLRACE_INLINE Pair interleaved(const uint16_t* low, const uint16_t* high) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low))),
                                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)), 1);
    return _mm512_permutexvar_epi16(order, both);
  }
};

// int8 and fp8, which differ in how a byte is widened.
template <class Storage>
struct BytePairs {
  using Element = typename Storage::Element;
  static constexpr bool kScaled = true;
  struct Zeros {};
  static MILLRACE_INLINE Zeros keyZeros(const uint8_t*, int64_t) { return {}; }
  static MILLRACE_INLINE Zeros valueZeros(const uint8_t*, int64_t, const uint8_t*, int64_t) { return {}; }
  static MILLRACE_INLINE Vec scales(const uint8_t* parameters, int64_t at) { return Storage::scalesAt(parameters, at).scale; }
  static MILLRACE_INLINE Pair keys(const Element* row, const Element* next, const Zeros&) { return pairOf(Storage::values(row, 0), Storage::values(next, 0)); }
  static MILLRACE_INLINE Pair values(const Element* first, const Element* second, int64_t d, const Zeros&) {
    return pairOf(Storage::values(first, d), Storage::values(second, d));
  }
};
template <>
struct Pairs<Int8Storage> : BytePairs<Int8Storage> {
  static MILLRACE_INLINE float level(const int8_t* row, int64_t d, const uint8_t*, int64_t) { return row[d]; }
};
template <>
struct Pairs<Fp8Storage> : BytePairs<Fp8Storage> {
  static MILLRACE_INLINE float level(const uint8_t* row, int64_t d, const uint8_t*, int64_t) { return Fp8Storage::one(row, d); }
};

template <>
struct Pairs<Int4Storage> {
  static constexpr bool kScaled = true;
  struct Zeros {
    __m512i words;  // 15 - zero point, for each half of a lane
  };
  static MILLRACE_INLINE Zeros keyZeros(const uint8_t* parameters, int64_t at) {
    const __m512i zero = _mm512_and_si512(loadInt(parameters + 4 * at), set1Int(0xffff));
    const __m512i left = _mm512_sub_epi32(set1Int(15), zero);
    return {_mm512_or_si512(_mm512_slli_epi32(left, 16), _mm512_and_si512(left, set1Int(0xffff)))};
  }
  static MILLRACE_INLINE Zeros valueZeros(const uint8_t* first, int64_t atFirst, const uint8_t* second, int64_t atSecond) {
    const uint32_t low = static_cast<uint32_t>(left(first, atFirst)), high = static_cast<uint32_t>(left(second, atSecond));
    return {set1Int(static_cast<int32_t>((low & 0xffffu) | high << 16))};
  }
  static MILLRACE_INLINE Vec scales(const uint8_t* parameters, int64_t at) { return Int4Storage::scalesAt(parameters, at).scale; }
  static MILLRACE_INLINE Pair keys(const uint8_t* row, const uint8_t*, const Zeros& zeros) {
    const __m512i bytes = widenByte(row);
    return numbers(_mm512_and_si512(_mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12)), set1Int(0x000f000f)), zeros);
  }
  static MILLRACE_INLINE Pair values(const uint8_t* first, const uint8_t* second, int64_t d, const Zeros& zeros) {
    return numbers(_mm512_or_si512(nibbles(first + d / 2), _mm512_slli_epi32(nibbles(second + d / 2), 16)), zeros);
  }
  static MILLRACE_INLINE float level(const uint8_t* row, int64_t d, const uint8_t* parameters, int64_t at) {
    return Int4Storage::one(row, d) - static_cast<float>(15 - left(parameters, at));
  }

 private:
  static MILLRACE_INLINE int32_t left(const uint8_t* parameters, int64_t at) { return 15 - readAs<uint16_t>(parameters + 4 * at); }
  static MILLRACE_INLINE __m512i nibbles(const uint8_t* p) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), mask = _mm_set1_epi8(15);
    return _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(_mm_and_si128(x, mask), _mm_and_si128(_mm_srli_epi16(x, 4), mask)));
  }
  // levels + 15 - zero points, 0 to 30, as the numbers -15 to 15.
  static MILLRACE_INLINE Pair numbers(__m512i levels, const Zeros& zeros) {
    alignas(64) static constexpr uint16_t kNumbers[32] = {0xc170, 0xc160, 0xc150, 0xc140, 0xc130, 0xc120, 0xc110, 0xc100, 0xc0e0, 0xc0c0, 0xc0a0,
                                                          0xc080, 0xc040, 0xc000, 0xbf80, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0,
                                                          0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x0000};
    return _mm512_permutexvar_epi16(_mm512_add_epi16(levels, zeros.words), _mm512_load_si512(kNumbers));
  }
};

// Calls f with the storage of a dtype whose levels are bf16 numbers.
template <class F>
MILLRACE_INLINE void withPairStorage(KvDtype dtype, F&& f) {
  switch (dtype) {
    case KvDtype::int8: return f(Int8Storage{});
    case KvDtype::fp8: return f(Fp8Storage{});
    case KvDtype::int4: return f(Int4Storage{});
    default: return f(Plain<Bf16Type>{});
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
#endif
