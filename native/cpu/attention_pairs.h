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

// sum + a . b, b in every lane.
MILLRACE_INLINE Vec dot(Vec sum, Pair a, uint32_t b) { return _mm512_dpbf16_ps(sum, bitCast<__m512bh>(a), bitCast<__m512bh>(_mm512_set1_epi32(static_cast<int32_t>(b)))); }
MILLRACE_INLINE Pair only(Pair pair, uint32_t mask) { return _mm512_and_si512(pair, _mm512_set1_epi32(static_cast<int32_t>(mask))); }

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
  template <bool Together>
  static MILLRACE_INLINE void twoKeys(const uint16_t* first, const uint16_t* second, int64_t blockSize, const Zeros (&)[2], Pair (&out)[2]) {
    if constexpr (Together) return two(first, first + blockSize, out);
    out[0] = interleaved(first, first + blockSize);
    out[1] = interleaved(second, second + blockSize);
  }
  static MILLRACE_INLINE void twoValues(const uint16_t* first, const uint16_t* second, const Zeros&, Pair (&out)[2]) { two(first, second, out); }

 private:
  static MILLRACE_INLINE void two(const uint16_t* low, const uint16_t* high, Pair (&out)[2]) {
    const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i a = _mm512_loadu_si512(low), b = _mm512_loadu_si512(high);
    out[0] = _mm512_permutex2var_epi16(a, order, b);
    out[1] = _mm512_permutex2var_epi16(a, _mm512_add_epi16(order, _mm512_set1_epi16(16)), b);
  }
  static MILLRACE_INLINE Pair interleaved(const uint16_t* low, const uint16_t* high) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(low))),
                                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high)), 1);
    return _mm512_permutexvar_epi16(order, both);
  }
};

// value * 2^exponent as bf16, where that is exact; 0 <= value < 256.
constexpr uint16_t exactBf16(int value, int exponent) {
  if (value == 0) return 0;
  for (; value < 128; exponent--) value *= 2;
  return static_cast<uint16_t>((exponent + 7 + 127) << 7 | (value & 127));
}

// Bytes of bf16 numbers by the lower seven bits of a byte.
struct ByteTable {
  alignas(64) uint8_t low[128] = {}, high[128] = {};
  constexpr void set(int i, uint16_t number) {
    low[i] = static_cast<uint8_t>(number);
    high[i] = static_cast<uint8_t>(number >> 8);
  }
};
constexpr ByteTable magnitudes() {
  ByteTable table;
  for (int i = 0; i < 128; i++) table.set(i, exactBf16(i, 0));
  return table;
}
constexpr ByteTable e4m3Magnitudes() {  // 2^8 too small, as widenE4m3 has them
  ByteTable table;
  for (int i = 0; i < 128; i++) table.set(i, i < 8 ? exactBf16(i, -17) : exactBf16(8 + i % 8, i / 8 - 18));
  return table;
}

// Pairs of bytes of a and b: byte i of the result is byte order[i] of both, one behind the other.
struct ByteOrder {
  alignas(64) uint8_t bytes[64] = {};
};
// Lane i of part 0 or 1 is bytes `first + i` and `second + i` of each of two registers, as words.
constexpr ByteOrder wordOrder(int first, int second) {
  ByteOrder order;
  for (int i = 0; i < 16; i++) {
    order.bytes[4 * i] = static_cast<uint8_t>(first + i);
    order.bytes[4 * i + 1] = static_cast<uint8_t>(64 + first + i);
    order.bytes[4 * i + 2] = static_cast<uint8_t>(second + i);
    order.bytes[4 * i + 3] = static_cast<uint8_t>(64 + second + i);
  }
  return order;
}

// For lane i, byte `from + i / sharing` in both halves where lanes share none; else that byte in the lower half, and the one 16 further in the upper.
constexpr ByteOrder nibbleOrder(int sharing, int from) {
  ByteOrder order;
  for (int i = 0; i < 16; i++) {
    const int byte = from + i / sharing;
    order.bytes[4 * i] = order.bytes[4 * i + 1] = static_cast<uint8_t>(byte);
    order.bytes[4 * i + 2] = order.bytes[4 * i + 3] = static_cast<uint8_t>(sharing == 1 ? byte : 16 + byte);
  }
  return order;
}

MILLRACE_INLINE __m512i loadTable(const uint8_t* p) { return _mm512_load_si512(p); }
MILLRACE_INLINE __m512i twoHalves(const void* low, const void* high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(static_cast<const __m256i*>(low))), _mm256_loadu_si256(static_cast<const __m256i*>(high)), 1);
}

// int8 and fp8: sign and magnitude, the magnitude by table, 64 at a time.
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
  template <bool Together>
  static MILLRACE_INLINE void twoKeys(const Element* first, const Element* second, int64_t blockSize, const Zeros (&)[2], Pair (&out)[2]) {
    if constexpr (Together) return two<0, 32, 16, 48>(twoHalves(first, first + blockSize), out);
    two<0, 16, 32, 48>(twoHalves(first, second), out);  // blocks of 16 keys: two rows are side by side
  }
  static MILLRACE_INLINE void twoValues(const Element* first, const Element* second, const Zeros&, Pair (&out)[2]) { two<0, 32, 16, 48>(twoHalves(first, second), out); }

 private:
  // out[0] is bytes A.. beside bytes B.., out[1] C.. beside D...
  template <int A, int B, int C, int D>
  static MILLRACE_INLINE void two(__m512i bytes, Pair (&out)[2]) {
    static constexpr bool kIsSigned = static_cast<Element>(-1) < 0;
    static constexpr ByteTable kTable = kIsSigned ? magnitudes() : e4m3Magnitudes();
    static constexpr ByteOrder kFirst = wordOrder(A, B), kSecond = wordOrder(C, D);
    const __m512i magnitude = kIsSigned ? _mm512_abs_epi8(bytes) : bytes;
    const __m512i low = _mm512_permutex2var_epi8(loadTable(kTable.low), magnitude, loadTable(kTable.low + 64));
    const __m512i unsignedHigh = _mm512_permutex2var_epi8(loadTable(kTable.high), magnitude, loadTable(kTable.high + 64));
    const __m512i high = _mm512_ternarylogic_epi32(unsignedHigh, bytes, _mm512_set1_epi8(-128), 0xf8);  // a | (b & c)
    out[0] = _mm512_permutex2var_epi8(low, loadTable(kFirst.bytes), high);
    out[1] = _mm512_permutex2var_epi8(low, loadTable(kSecond.bytes), high);
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
  template <bool Together>
  static MILLRACE_INLINE void twoKeys(const uint8_t* first, const uint8_t* second, int64_t, const Zeros (&zeros)[2], Pair (&out)[2]) {
    static constexpr ByteOrder kEach = nibbleOrder(1, 0);
    const __m512i order = loadTable(kEach.bytes), shifts = set1Int(4 << 16);
    out[0] = numbers(nibblesOf(_mm512_castsi128_si512(loadBytes(first)), order, shifts), zeros[0]);
    out[1] = numbers(nibblesOf(_mm512_castsi128_si512(loadBytes(Together ? first + kLanes : second)), order, shifts), zeros[1]);
  }
  static MILLRACE_INLINE void twoValues(const uint8_t* first, const uint8_t* second, const Zeros& zeros, Pair (&out)[2]) {
    static constexpr ByteOrder kLow = nibbleOrder(2, 0), kHigh = nibbleOrder(2, 8);
    const __m512i bytes = _mm512_inserti32x4(_mm512_castsi128_si512(loadBytes(first)), loadBytes(second), 1), shifts = _mm512_set1_epi64(int64_t{0x00040004} << 32);
    out[0] = numbers(nibblesOf(bytes, loadTable(kLow.bytes), shifts), zeros);
    out[1] = numbers(nibblesOf(bytes, loadTable(kHigh.bytes), shifts), zeros);
  }

 private:
  static MILLRACE_INLINE int32_t left(const uint8_t* parameters, int64_t at) { return 15 - readAs<uint16_t>(parameters + 4 * at); }
  static MILLRACE_INLINE __m512i nibbles(const uint8_t* p) {
    const __m128i x = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), mask = _mm_set1_epi8(15);
    return _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(_mm_and_si128(x, mask), _mm_and_si128(_mm_srli_epi16(x, 4), mask)));
  }
  static MILLRACE_INLINE __m128i loadBytes(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static MILLRACE_INLINE __m512i nibblesOf(__m512i bytes, __m512i order, __m512i shifts) {
    return _mm512_and_si512(_mm512_srlv_epi16(_mm512_permutexvar_epi8(order, bytes), shifts), _mm512_set1_epi16(15));
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
