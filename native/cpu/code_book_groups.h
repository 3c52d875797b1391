// Groups of the formats that take magnitudes or ternary digits from code books (IQ1, IQ2, IQ3), in registers: each lane gathers the four levels of its entry that
// a step needs. Levels are lifted so that they are unsigned: by 64 under signs, by 9 for the digits of IQ1. Part of field_groups.h.
#pragma once

#include "field_vectors.h"
#include "grid_formats.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

// Eight times the digits plus 1.
constexpr int8_t kIq1LiftedLevels[3] = {0, 8, 16};
constexpr auto kIq1Lifted = spread<8>(kGrid_iq1, kIq1LiftedLevels);

constexpr bool isCodeBook(WeightFormat f) { return f >= WeightFormat::iq2_xxs && f <= WeightFormat::iq1_m; }
constexpr int codeBookOffset(WeightFormat f) { return f == WeightFormat::iq1_s || f == WeightFormat::iq1_m ? 9 : 64; }

// Word `index` of each lane.
MILLRACE_INLINE VecI gatherWords(const void* table, VecI index) {
#if defined(MILLRACE_AVX512)
  return _mm512_i32gather_epi32(index, table, 4);
#elif defined(MILLRACE_AVX2)
  return _mm256_i32gather_epi32(static_cast<const int*>(table), index, 4);
#else
  const uint8_t* words = static_cast<const uint8_t*>(table);
  VecI v{};
  for (int i = 0; i < kLanes; i++) v[i] = readAs<int32_t>(words + int64_t{index[i]} * 4);
  return v;
#endif
}

// f16 in the low half of each lane.
MILLRACE_INLINE Vec halvesToFloat(VecI halves) {
#if defined(MILLRACE_AVX512)
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(halves));
#else
  alignas(32) int32_t words[kLanes];
  storeBytes(reinterpret_cast<uint8_t*>(words), halves);
  alignas(32) uint16_t packed[kLanes];
  for (int i = 0; i < kLanes; i++) packed[i] = static_cast<uint16_t>(words[i]);
  return loadF16(packed);
#endif
}

// Byte k of each lane.
template <int k> MILLRACE_INLINE VecI byteOf(VecI word) { return andInt(k == 0 ? word : shiftRightSigned<8 * k>(word), set1Int(255)); }

// 64 + the magnitudes, or 64 - them where bit i of the lane's lowest four is set, for its byte i.
MILLRACE_INLINE Bytes signedMagnitudes(VecI magnitudes, VecI signs) {
  const VecI one = set1Int(1);
  VecI mask = andInt(signs, one);
  mask = orInt(mask, andInt(shiftLeft<7>(signs), shiftLeft<8>(one)));
  mask = orInt(mask, andInt(shiftLeft<14>(signs), shiftLeft<16>(one)));
  mask = orInt(mask, andInt(shiftLeft<21>(signs), shiftLeft<24>(one)));
  mask = subInt(shiftLeft<8>(mask), mask);  // 255 in each byte that was 1, the topmost by wrapping
  return subInt(addInt(magnitudes, set1Int(0x40404040)), shiftLeft<1>(andInt(magnitudes, mask)));
}

// The eighth sign of seven: as many as make their number even.
MILLRACE_INLINE VecI evenSignsOf(VecI seven) {
  seven = andInt(seven, set1Int(127));
  VecI ones = xorInt(seven, shiftRightSigned<4>(seven));
  ones = xorInt(ones, shiftRightSigned<2>(ones));
  ones = xorInt(ones, shiftRightSigned<1>(ones));
  return orInt(seven, shiftLeft<7>(andInt(ones, set1Int(1))));
}

// Step `kStep` (of 8) of group j. Fields are the words and bytes of field_layout.h.
template <WeightFormat kFormat, int j, int kStep, class Group>
MILLRACE_INLINE Bytes codeBookLevels(const Group& g, int lane) {
  using F = WeightFormat;
  constexpr int k = kStep / 2, half = kStep % 2;  // of the four entries of eight, and which four of them
  const VecI halfOf = set1Int(half), mask3 = set1Int(7);
  (void)mask3;
  (void)halfOf;
  if constexpr (kFormat == F::iq2_xxs) {
    const VecI entry = byteOf<k>(g.template words<1>(2 * j, lane)), signs = evenSignsOf(shiftRightSigned<7 * k>(g.template words<1>(2 * j + 1, lane)));
    return signedMagnitudes(gatherWords(kIq2Xxs.levels, addInt(shiftLeft<1>(entry), halfOf)), shiftRightSigned<4 * half>(signs));
  } else if constexpr (kFormat == F::iq2_xs) {
    const VecI word = shiftRightSigned<16 * (k % 2)>(g.template words<1>(2 * j + k / 2, lane));
    const VecI entry = andInt(word, set1Int(511)), signs = evenSignsOf(shiftRightSigned<9>(word));
    return signedMagnitudes(gatherWords(kIq2Xs.levels, addInt(shiftLeft<1>(entry), halfOf)), shiftRightSigned<4 * half>(signs));
  } else if constexpr (kFormat == F::iq2_s) {
    const VecI high = andInt(shiftRightSigned<2 * k>(widenBytes(g.template bytes<3>(j, lane))), set1Int(3));
    const VecI entry = orInt(byteOf<k>(g.template words<1>(j, lane)), shiftLeft<8>(high)), signs = byteOf<k>(g.template words<2>(j, lane));
    return signedMagnitudes(gatherWords(kIq2S.levels, addInt(shiftLeft<1>(entry), halfOf)), shiftRightSigned<4 * half>(signs));
  } else if constexpr (kFormat == F::iq3_xxs) {
    const VecI entry = byteOf<kStep % 4>(g.template words<1>(2 * j + kStep / 4, lane)), signs = evenSignsOf(shiftRightSigned<7 * k>(g.template words<2>(j, lane)));
    return signedMagnitudes(gatherWords(kIq3Xxs.levels, entry), shiftRightSigned<4 * half>(signs));
  } else if constexpr (kFormat == F::iq3_s) {
    const VecI high = andInt(shiftRightSigned<kStep>(widenBytes(g.template bytes<2>(j, lane))), set1Int(1));
    const VecI entry = orInt(byteOf<kStep % 4>(g.template words<1>(2 * j + kStep / 4, lane)), shiftLeft<8>(high));
    return signedMagnitudes(gatherWords(kIq3S.levels, entry), shiftRightSigned<4 * half>(byteOf<k>(g.template words<3>(j, lane))));
  } else {
    VecI entry, down;  // down: above 0 where the digits are shifted down
    if constexpr (kFormat == F::iq1_s) {
      const VecI word = widenHalves(g.template bytes<2>(2 * j, 2 * lane));
      entry = orInt(byteOf<k>(g.template words<1>(j, lane)), shiftLeft<8>(andInt(shiftRightSigned<3 * k>(word), mask3)));
      down = andInt(word, set1Int(0x8000));
    } else {
      const VecI nibble = shiftRightSigned<4 * (k % 2)>(widenBytes(g.template bytes<1>(2 * j + k / 2, lane)));
      entry = orInt(byteOf<k>(g.template words<0>(j, lane)), shiftLeft<8>(andInt(nibble, mask3)));
      down = shiftLeft<12>(andInt(nibble, set1Int(8)));
    }
    const VecI up = xorInt(shiftRightSigned<15>(down), set1Int(1));  // 1 or 0
    const VecI twos = shiftLeft<1>(up), pairs = orInt(twos, shiftLeft<8>(twos));
    return addInt(gatherWords(kIq1Lifted.levels, addInt(shiftLeft<1>(entry), halfOf)), orInt(pairs, shiftLeft<16>(pairs)));
  }
}

template <WeightFormat kFormat, int j, class Group>
MILLRACE_INLINE Vec codeBookScale(const Group& g, int part, int lane) {
  using F = WeightFormat;
  const auto nibble = [&](VecI byte, bool high) { return andInt(high ? shiftRightSigned<4>(byte) : byte, set1Int(15)); };
  const auto topFour = [&](VecI word) { return andInt(shiftRightSigned<28>(word), set1Int(15)); };
  if constexpr (kFormat == F::iq2_xxs) return mul(mul(g.template half<0>(lane), add(set1(0.5f), intToFloat(topFour(g.template words<1>(2 * j + 1, lane))))), set1(0.25f));
  else if constexpr (kFormat == F::iq2_xs) return mul(mul(g.template half<0>(lane), add(set1(0.5f), intToFloat(nibble(widenBytes(g.template bytes<2>(j, lane)), part == 1)))), set1(0.25f));
  else if constexpr (kFormat == F::iq2_s) return mul(mul(g.template half<0>(lane), add(set1(0.5f), intToFloat(nibble(widenBytes(g.template bytes<4>(j, lane)), part == 1)))), set1(0.25f));
  else if constexpr (kFormat == F::iq3_xxs) return mul(mul(g.template half<0>(lane), add(set1(0.5f), intToFloat(topFour(g.template words<2>(j, lane))))), set1(0.5f));
  else if constexpr (kFormat == F::iq3_s) {
    const VecI n = nibble(widenBytes(g.template bytes<4>(j / 2, lane)), j % 2 == 1);
    return mul(g.template half<0>(lane), intToFloat(addInt(shiftLeft<1>(n), set1Int(1))));
  } else if constexpr (kFormat == F::iq1_s) {
    const VecI three = andInt(shiftRightSigned<12>(widenHalves(g.template bytes<2>(2 * j, 2 * lane))), set1Int(7));
    return mul(mul(g.template half<0>(lane), intToFloat(addInt(shiftLeft<1>(three), set1Int(1)))), set1(0.125f));
  } else {
    const auto word = [&](int i) { return widenHalves(g.template bytes<2>(2 * i, 2 * lane)); };
    VecI bits = shiftRightSigned<12>(word(0));
    bits = orInt(bits, shiftLeft<4>(shiftRightSigned<12>(word(1))));
    bits = orInt(bits, shiftLeft<8>(shiftRightSigned<12>(word(2))));
    bits = orInt(bits, shiftLeft<12>(shiftRightSigned<12>(word(3))));
    const VecI scales = shiftRightSigned<6 * (j % 2)>(word(j / 2));
    const VecI three = andInt(part == 1 ? shiftRightSigned<3>(scales) : scales, set1Int(7));
    return mul(mul(halvesToFloat(bits), intToFloat(addInt(shiftLeft<1>(three), set1Int(1)))), set1(0.125f));
  }
}

}  // namespace
}  // namespace millrace::cpu::MILLRACE_ISA
