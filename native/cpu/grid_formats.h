// Groups of 32 elements of the formats that take magnitudes or ternary digits from code books (IQ1, IQ2, IQ3), and of the ternary ones (TQ): part of
// block_formats.h, laid out as src/quant/formats/iq1.ts, iq2.ts, iq3.ts and ternary.ts say. Their scales times their levels are exact in f32.
#pragma once

#include "../common/grids.h"
#include "../common/weight_formats.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

constexpr bool isGridFormat(WeightFormat format) { return format >= WeightFormat::iq2_xxs && format <= WeightFormat::tq2_0; }
// With scales of 16 instead of 32 elements.
constexpr bool hasGridHalves(WeightFormat format) {
  return format == WeightFormat::iq2_xs || format == WeightFormat::iq2_s || format == WeightFormat::iq1_m;
}

// Entries of a book spread out: eight or four levels in a row.
template <int kEntries, int kWidth>
struct Grid {
  int8_t levels[kEntries][kWidth];
};
template <int kWidth, int kEntries, int kLevels>
constexpr Grid<kEntries, kWidth> spread(const uint16_t (&words)[kEntries], const int8_t (&levels)[kLevels]) {
  constexpr int bits = kWidth == 8 ? 2 : 3;
  Grid<kEntries, kWidth> grid{};
  for (int entry = 0; entry < kEntries; entry++) {
    for (int i = 0; i < kWidth; i++) grid.levels[entry][i] = levels[(words[entry] >> (bits * i)) & ((1 << bits) - 1)];
  }
  return grid;
}

constexpr int8_t kIq2Levels[3] = {8, 25, 43}, kIq1Levels[3] = {-8, 0, 8};
constexpr int8_t kIq3XxsLevels[8] = {4, 12, 20, 28, 36, 44, 52, 62}, kIq3SLevels[8] = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr auto kIq2Xxs = spread<8>(kGrid_iq2_xxs, kIq2Levels);
constexpr auto kIq2Xs = spread<8>(kGrid_iq2_xs, kIq2Levels);
constexpr auto kIq2S = spread<8>(kGrid_iq2_s, kIq2Levels);
constexpr auto kIq3Xxs = spread<4>(kGrid_iq3_xxs, kIq3XxsLevels);
constexpr auto kIq3S = spread<4>(kGrid_iq3_s, kIq3SLevels);
// Eight times the digits, so that a shift of an eighth is 1.
constexpr auto kIq1 = spread<8>(kGrid_iq1, kIq1Levels);

MILLRACE_INLINE float gridHalf(uint16_t bits) {
#if defined(MILLRACE_AVX512) || defined(MILLRACE_AVX2)
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
#else
  return f16ToF32(bits);
#endif
}

// Signs of eight elements by seven bits: the eighth makes their number even.
MILLRACE_INLINE uint32_t evenSigns(uint32_t seven) {
  uint32_t ones = seven ^ (seven >> 4);
  ones ^= ones >> 2;
  ones ^= ones >> 1;
  return seven | ((ones & 1) << 7);
}
// `count` magnitudes, negated where the bits of `signs` say so.
MILLRACE_INLINE void signedLevels(const int8_t* magnitudes, int count, uint32_t signs, int8_t* to) {
  for (int i = 0; i < count; i++) {
    const int minus = -static_cast<int>((signs >> i) & 1);
    to[i] = static_cast<int8_t>((magnitudes[i] ^ minus) - minus);
  }
}
MILLRACE_INLINE void shiftedDigits(const int8_t* digits, bool down, int8_t* to) {
  for (int i = 0; i < 8; i++) to[i] = static_cast<int8_t>(digits[i] + (down ? -1 : 1));
}
MILLRACE_INLINE int nibbleAt(const uint8_t* p, int i) { return (p[i / 2] >> (4 * (i % 2))) & 15; }
// Digit n of the five in a byte of TQ1_0.
MILLRACE_INLINE int8_t ternaryDigit(uint8_t byte, int n) {
  constexpr uint8_t powers[5] = {1, 3, 9, 27, 81};
  return static_cast<int8_t>(((static_cast<uint8_t>(byte * powers[n]) * 3) >> 8) - 1);
}

// Group j (of 8) of the block at p.
template <WeightFormat kFormat>
MILLRACE_INLINE void readGridGroup(const uint8_t* p, int j, int8_t* levels, float* scales) {
  if constexpr (kFormat == WeightFormat::iq2_xxs) {
    const uint8_t* q = p + 2 + 8 * j;
    const uint32_t word = readAs<uint32_t>(q + 4);
    scales[0] = scales[1] = gridHalf(readAs<uint16_t>(p)) * (0.5f + static_cast<float>(word >> 28)) * 0.25f;
    for (int k = 0; k < 4; k++) signedLevels(kIq2Xxs.levels[q[k]], 8, evenSigns((word >> (7 * k)) & 127), levels + 8 * k);
  } else if constexpr (kFormat == WeightFormat::iq2_xs) {
    const float d = gridHalf(readAs<uint16_t>(p));
    for (int h = 0; h < 2; h++) scales[h] = d * (0.5f + static_cast<float>(nibbleAt(p + 66, 2 * j + h))) * 0.25f;
    for (int k = 0; k < 4; k++) {
      const uint32_t word = readAs<uint16_t>(p + 2 + 8 * j + 2 * k);
      signedLevels(kIq2Xs.levels[word & 511], 8, evenSigns(word >> 9), levels + 8 * k);
    }
  } else if constexpr (kFormat == WeightFormat::iq2_s) {
    const float d = gridHalf(readAs<uint16_t>(p));
    for (int h = 0; h < 2; h++) scales[h] = d * (0.5f + static_cast<float>(nibbleAt(p + 74, 2 * j + h))) * 0.25f;
    for (int k = 0; k < 4; k++) {
      const int entry = p[2 + 4 * j + k] | (((p[66 + j] >> (2 * k)) & 3) << 8);
      signedLevels(kIq2S.levels[entry], 8, p[34 + 4 * j + k], levels + 8 * k);
    }
  } else if constexpr (kFormat == WeightFormat::iq3_xxs) {
    const uint32_t word = readAs<uint32_t>(p + 66 + 4 * j);
    scales[0] = scales[1] = gridHalf(readAs<uint16_t>(p)) * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    for (int k = 0; k < 8; k++) {
      signedLevels(kIq3Xxs.levels[p[2 + 8 * j + k]], 4, evenSigns((word >> (7 * (k / 2))) & 127) >> (4 * (k % 2)), levels + 4 * k);
    }
  } else if constexpr (kFormat == WeightFormat::iq3_s) {
    scales[0] = scales[1] = gridHalf(readAs<uint16_t>(p)) * static_cast<float>(1 + 2 * nibbleAt(p + 106, j));
    for (int k = 0; k < 8; k++) {
      const int entry = p[2 + 8 * j + k] | (((p[66 + j] >> k) & 1) << 8);
      signedLevels(kIq3S.levels[entry], 4, static_cast<uint32_t>(p[74 + 4 * j + k / 2]) >> (4 * (k % 2)), levels + 4 * k);
    }
  } else if constexpr (kFormat == WeightFormat::iq1_s) {
    const uint32_t word = readAs<uint16_t>(p + 34 + 2 * j);
    scales[0] = scales[1] = gridHalf(readAs<uint16_t>(p)) * static_cast<float>(2 * ((word >> 12) & 7) + 1) * 0.125f;
    for (int k = 0; k < 4; k++) shiftedDigits(kIq1.levels[p[2 + 4 * j + k] | (((word >> (3 * k)) & 7) << 8)], (word & 0x8000) != 0, levels + 8 * k);
  } else if constexpr (kFormat == WeightFormat::iq1_m) {
    uint32_t half = 0;
    for (int w = 0; w < 4; w++) half |= static_cast<uint32_t>(p[49 + 2 * w] >> 4) << (4 * w);
    const float d = gridHalf(static_cast<uint16_t>(half));
    const uint32_t word = readAs<uint16_t>(p + 48 + 2 * (j / 2));
    for (int h = 0; h < 2; h++) scales[h] = d * static_cast<float>(2 * ((word >> (3 * (2 * (j % 2) + h))) & 7) + 1) * 0.125f;
    for (int k = 0; k < 4; k++) {
      const int nibble = nibbleAt(p + 32, 4 * j + k);
      shiftedDigits(kIq1.levels[p[4 * j + k] | ((nibble & 7) << 8)], (nibble & 8) != 0, levels + 8 * k);
    }
  } else if constexpr (kFormat == WeightFormat::tq1_0) {
    scales[0] = scales[1] = gridHalf(readAs<uint16_t>(p + 52));
    if (j < 5) {
      for (int i = 0; i < 32; i++) levels[i] = ternaryDigit(p[i], j);
    } else {
      for (int i = 0; i < 16; i++) levels[i] = ternaryDigit(p[32 + i], 2 * (j - 5));
      for (int i = 0; i < 16; i++) levels[16 + i] = j < 7 ? ternaryDigit(p[32 + i], 2 * (j - 5) + 1) : ternaryDigit(p[48 + i % 4], i / 4);
    }
  } else if constexpr (kFormat == WeightFormat::tq2_0) {
    scales[0] = scales[1] = gridHalf(readAs<uint16_t>(p + 64));
    for (int i = 0; i < 32; i++) levels[i] = static_cast<int8_t>(((p[32 * (j / 4) + i] >> (2 * (j % 4))) & 3) - 1);
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
