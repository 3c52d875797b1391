// Vectors of bytes for the levels of packed fields: four steps of K in each 32-bit lane. Beside linear_int8.h; private to linear_fields*.
#pragma once

#include "field_layout.h"
#include "linear_int8.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

#if defined(MILLRACE_AVX512)
using Bytes = __m512i;
MILLRACE_INLINE Bytes loadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
MILLRACE_INLINE void storeBytes(uint8_t* p, Bytes v) { _mm512_storeu_si512(p, v); }
MILLRACE_INLINE Bytes setBytes(int value) { return _mm512_set1_epi8(static_cast<char>(value)); }
MILLRACE_INLINE Bytes andBytes(Bytes a, Bytes b) { return _mm512_and_si512(a, b); }
MILLRACE_INLINE Bytes orBytes(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
template <int kShift> MILLRACE_INLINE Bytes shiftPairsRight(Bytes v) { return _mm512_srli_epi16(v, kShift); }
template <int kShift> MILLRACE_INLINE Bytes shiftPairsLeft(Bytes v) { return _mm512_slli_epi16(v, kShift); }
template <int kMask> MILLRACE_INLINE Bytes bitsAt(Bytes v, int shift) { return _mm512_and_si512(_mm512_srl_epi16(v, _mm_cvtsi32_si128(shift)), setBytes(kMask)); }
MILLRACE_INLINE Bytes mulPairs(Bytes a, Bytes b) { return _mm512_mullo_epi16(a, b); }
MILLRACE_INLINE Bytes lookup16(const int8_t* table, Bytes index) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), index);
}
// kLanes bytes, or halves, as integers.
MILLRACE_INLINE VecI widenBytes(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE VecI widenSigned(const uint8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE VecI widenHalves(const uint8_t* p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
// Products of the two 16-bit integers of each lane, added: exact.
MILLRACE_INLINE Sum mulPairsSum(VecI a, int32_t b) { return _mm512_madd_epi16(a, _mm512_set1_epi32(b)); }
#elif defined(MILLRACE_AVX2)
using Bytes = __m256i;
MILLRACE_INLINE Bytes loadBytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
MILLRACE_INLINE void storeBytes(uint8_t* p, Bytes v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
MILLRACE_INLINE Bytes setBytes(int value) { return _mm256_set1_epi8(static_cast<char>(value)); }
MILLRACE_INLINE Bytes andBytes(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
MILLRACE_INLINE Bytes orBytes(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
template <int kShift> MILLRACE_INLINE Bytes shiftPairsRight(Bytes v) { return _mm256_srli_epi16(v, kShift); }
template <int kShift> MILLRACE_INLINE Bytes shiftPairsLeft(Bytes v) { return _mm256_slli_epi16(v, kShift); }
template <int kMask> MILLRACE_INLINE Bytes bitsAt(Bytes v, int shift) { return _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(shift)), setBytes(kMask)); }
MILLRACE_INLINE Bytes mulPairs(Bytes a, Bytes b) { return _mm256_mullo_epi16(a, b); }
MILLRACE_INLINE Bytes lookup16(const int8_t* table, Bytes index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(table))), index);
}
MILLRACE_INLINE VecI widenBytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE VecI widenSigned(const uint8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE VecI widenHalves(const uint8_t* p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE Sum mulPairsSum(VecI a, int32_t b) { return _mm256_madd_epi16(a, _mm256_set1_epi32(b)); }
#else
using Bytes = VecI;
MILLRACE_INLINE Bytes loadBytes(const uint8_t* p) { return loadInt(p); }
MILLRACE_INLINE void storeBytes(uint8_t* p, Bytes v) { std::memcpy(p, &v, sizeof v); }
MILLRACE_INLINE Bytes setBytes(int value) { return set1Int(static_cast<int32_t>(static_cast<uint32_t>(value) * 0x01010101u)); }
MILLRACE_INLINE Bytes andBytes(Bytes a, Bytes b) { return a & b; }
MILLRACE_INLINE Bytes orBytes(Bytes a, Bytes b) { return a | b; }
typedef uint16_t Pairs __attribute__((vector_size(16)));
template <int kShift> MILLRACE_INLINE Bytes shiftPairsRight(Bytes v) { return bitCast<Bytes>(bitCast<Pairs>(v) >> kShift); }
template <int kShift> MILLRACE_INLINE Bytes shiftPairsLeft(Bytes v) { return bitCast<Bytes>(bitCast<Pairs>(v) << kShift); }
template <int kMask> MILLRACE_INLINE Bytes bitsAt(Bytes v, int shift) { return (v >> shift) & setBytes(kMask); }
MILLRACE_INLINE Bytes mulPairs(Bytes a, Bytes b) { return bitCast<Bytes>(bitCast<Pairs>(a) * bitCast<Pairs>(b)); }
#if defined(MILLRACE_NEON)
MILLRACE_INLINE Bytes lookup16(const int8_t* table, Bytes index) { return bitCast<Bytes>(vqtbl1q_s8(vld1q_s8(table), bitCast<uint8x16_t>(index))); }
#else
MILLRACE_INLINE Bytes lookup16(const int8_t* table, Bytes index) {
  uint8_t bytes[16];
  std::memcpy(bytes, &index, 16);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(table[byte]);
  return loadInt(bytes);
}
#endif
MILLRACE_INLINE VecI widenBytes(const uint8_t* p) { return VecI{p[0], p[1], p[2], p[3]}; }
MILLRACE_INLINE VecI widenSigned(const uint8_t* p) {
  const int8_t* q = reinterpret_cast<const int8_t*>(p);
  return VecI{q[0], q[1], q[2], q[3]};
}
MILLRACE_INLINE VecI widenHalves(const uint8_t* p) { return loadHalves(reinterpret_cast<const uint16_t*>(p)); }
#if defined(MILLRACE_NEON)
MILLRACE_INLINE Sum mulPairsSum(VecI a, int32_t b) {
  return shiftRightSigned<16>(shiftLeft<16>(a)) * static_cast<int32_t>(static_cast<int16_t>(b)) + shiftRightSigned<16>(a) * (b >> 16);
}
#else
MILLRACE_INLINE Sum mulPairsSum(VecI a, int32_t b) {
  const float low = static_cast<float>(static_cast<int16_t>(b)), high = static_cast<float>(b >> 16);
  return intToFloat(shiftRightSigned<16>(shiftLeft<16>(a))) * set1(low) + intToFloat(shiftRightSigned<16>(a)) * set1(high);
}
#endif
#endif

MILLRACE_INLINE Bytes asPairs(uint32_t value) { return set1Int(static_cast<int32_t>(value | value << 16)); }  // a 16-bit number twice in each lane

// Bits [kShift, kShift + the ones of kMask) of each byte.
template <int kMask, int kShift> MILLRACE_INLINE Bytes bits(Bytes v) {
  if constexpr (kShift == 0) return andBytes(v, setBytes(kMask));
  else return andBytes(shiftPairsRight<kShift>(v), setBytes(kMask));
}
template <int kShift> MILLRACE_INLINE Bytes onTop(Bytes low, Bytes high) { return orBytes(low, shiftPairsLeft<kShift>(high)); }
// Both 16-bit halves of each lane made the low one, which is below 2^15.
MILLRACE_INLINE VecI bothHalves(VecI v) { return xorInt(v, shiftLeft<16>(v)); }
MILLRACE_INLINE VecI orInt(VecI a, VecI b) { return xorInt(a, b); }  // of bits that lie apart

// Four products a lane. Levels that are not `kWide` stay below 128, where vpmaddubsw does not saturate and signed bytes are the same.
template <bool kWide>
MILLRACE_INLINE Sum addProducts(Sum sum, Bytes w, const uint8_t* x) {
#if defined(MILLRACE_VNNI) || defined(MILLRACE_NEON)
  return dot4(sum, w, x);
#elif defined(MILLRACE_AVX2)
  const __m256i broadcast = _mm256_set1_epi32(readAs<int32_t>(x));
  const __m256i pairs = kWide ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(broadcast, w)) : _mm256_maddubs_epi16(w, broadcast);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
  const int8_t* q = reinterpret_cast<const int8_t*>(x);
  const VecI mask = set1Int(255);
  sum = fma(intToFloat(andInt(w, mask)), set1(static_cast<float>(q[0])), sum);
  sum = fma(intToFloat(andInt(shiftRightSigned<8>(w), mask)), set1(static_cast<float>(q[1])), sum);
  sum = fma(intToFloat(andInt(shiftRightSigned<16>(w), mask)), set1(static_cast<float>(q[2])), sum);
  return fma(intToFloat(andInt(shiftRightSigned<24>(w), mask)), set1(static_cast<float>(q[3])), sum);
#endif
}

// Level i of the four of each lane, as an integer.
template <bool kWide>
MILLRACE_INLINE VecI levelAt(Bytes v, int i) {
  switch (i) {
    case 0: v = shiftLeft<24>(v); break;
    case 1: v = shiftLeft<16>(v); break;
    case 2: v = shiftLeft<8>(v); break;
    default: break;
  }
  v = shiftRightSigned<24>(v);
  return kWide && kSignedWide ? v : andInt(v, set1Int(255));
}

}  // namespace
}  // namespace millrace::cpu::MILLRACE_ISA
