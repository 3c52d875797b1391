// Groups of 32 elements out of stored blocks of the formats that have no kernel of their own. Every such format is levels in int8 under a scale, and
// perhaps a minimum, of 32 or 16 elements: value = scale * level + minimum, rounded to f32 once, as src/quant/formats/<format>.ts says.
#pragma once

#include "../common/weight_formats.h"
#include "grid_formats.h"
#include "group_formats.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

struct BlockGroup {
  alignas(32) int8_t levels[32];
  float scales[2], minimums[2];  // of the two halves; one value for both where the format has no halves
};

template <WeightFormat kFormat>
struct BlockTraits {
  // Scales of 16 instead of 32 elements; minimums.
  static constexpr bool kHalves = kFormat == WeightFormat::q2_k || kFormat == WeightFormat::q3_k || kFormat == WeightFormat::q6_k ||
                                 hasGridHalves(kFormat);
  static constexpr bool kMinimums = kFormat == WeightFormat::q4_1 || kFormat == WeightFormat::q5_1 || kFormat == WeightFormat::q2_k ||
                                    kFormat == WeightFormat::q4_k || kFormat == WeightFormat::q5_k || isIntegerGroups(kFormat);
};

MILLRACE_INLINE float halfAt(const uint8_t* p) {
#if defined(MILLRACE_AVX512) || defined(MILLRACE_AVX2)
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(readAs<uint16_t>(p))));
#else
  return f16ToF32(readAs<uint16_t>(p));
#endif
}
MILLRACE_INLINE void setScale(BlockGroup& g, float scale) { g.scales[0] = g.scales[1] = scale; }
MILLRACE_INLINE void setMinimum(BlockGroup& g, float minimum) { g.minimums[0] = g.minimums[1] = minimum; }

// 16 bytes whose low nibbles are the first half of a group and whose high nibbles the second.
MILLRACE_INLINE void nibbleLevels(const uint8_t* p, int offset, BlockGroup& g) {
  for (int i = 0; i < 16; i++) g.levels[i] = static_cast<int8_t>((p[i] & 15) - offset);
  for (int i = 0; i < 16; i++) g.levels[16 + i] = static_cast<int8_t>((p[i] >> 4) - offset);
}
// The same with bit i of `fifths` on top of element i.
MILLRACE_INLINE void fiveBitLevels(const uint8_t* p, uint32_t fifths, int offset, BlockGroup& g) {
  for (int i = 0; i < 16; i++) g.levels[i] = static_cast<int8_t>(((p[i] & 15) | (((fifths >> i) & 1) << 4)) - offset);
  for (int i = 0; i < 16; i++) g.levels[16 + i] = static_cast<int8_t>(((p[i] >> 4) | (((fifths >> (16 + i)) & 1) << 4)) - offset);
}
MILLRACE_INLINE void tableLevels(const uint8_t* p, const int8_t* table, BlockGroup& g) {
#if defined(MILLRACE_AVX512) || defined(MILLRACE_AVX2)
  const __m128i levels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), mask = _mm_set1_epi8(15);
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  _mm_store_si128(reinterpret_cast<__m128i*>(g.levels), _mm_shuffle_epi8(levels, _mm_and_si128(bytes, mask)));
  _mm_store_si128(reinterpret_cast<__m128i*>(g.levels + 16), _mm_shuffle_epi8(levels, _mm_and_si128(_mm_srli_epi16(bytes, 4), mask)));
#else
  for (int i = 0; i < 16; i++) g.levels[i] = table[p[i] & 15];
  for (int i = 0; i < 16; i++) g.levels[16 + i] = table[p[i] >> 4];
#endif
}

alignas(16) constexpr int8_t kUnevenLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
alignas(16) constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Scale and minimum of group j of a Q4_K or Q5_K block: 12 bytes of 6-bit numbers.
MILLRACE_INLINE void kScales(const uint8_t* block, int j, BlockGroup& g) {
  const uint8_t* s = block + 4;
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
  const int minimum = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
  setScale(g, halfAt(block) * static_cast<float>(scale));
  setMinimum(g, -(halfAt(block + 2) * static_cast<float>(minimum)));
}
MILLRACE_INLINE int q3Scale(const uint8_t* s, int i) { return (((s[i & 7] >> (i < 8 ? 0 : 4)) & 15) | (((s[8 + (i & 3)] >> (2 * (i >> 2))) & 3) << 4)) - 32; }

// Group `index` of a row of blocks.
template <WeightFormat kFormat>
MILLRACE_INLINE void readGroup(const uint8_t* row, int index, BlockGroup& g) {
  constexpr int perBlock = kFormat == WeightFormat::q2_k || kFormat == WeightFormat::q3_k || kFormat == WeightFormat::q4_k || kFormat == WeightFormat::q5_k ||
                                   kFormat == WeightFormat::q6_k || kFormat == WeightFormat::iq4_xs || isGridFormat(kFormat)
                               ? 8
                               : 1;
  const int j = index % perBlock, half = j / 4, quarter = j % 4;  // of a super-block of 256: group, half of 128, group within the half
  const uint8_t* p = row + int64_t{index / perBlock} * blockSize(kFormat).bytes;
  if constexpr (isGridFormat(kFormat)) {
    readGridGroup<kFormat>(p, j, g.levels, g.scales);
  } else if constexpr (isIntegerGroups(kFormat)) {
    float scale, minimum;
    readIntegerGroup<kFormat>(row, index, g.levels, &scale, &minimum);
    setScale(g, scale);
    setMinimum(g, minimum);
  } else if constexpr (kFormat == WeightFormat::q4_1) {
    setScale(g, halfAt(p));
    setMinimum(g, halfAt(p + 2));
    nibbleLevels(p + 4, 0, g);
  } else if constexpr (kFormat == WeightFormat::q5_0) {
    setScale(g, halfAt(p));
    fiveBitLevels(p + 6, readAs<uint32_t>(p + 2), 16, g);
  } else if constexpr (kFormat == WeightFormat::q5_1) {
    setScale(g, halfAt(p));
    setMinimum(g, halfAt(p + 2));
    fiveBitLevels(p + 8, readAs<uint32_t>(p + 4), 0, g);
  } else if constexpr (kFormat == WeightFormat::q2_k) {
    const float d = halfAt(p + 80), dmin = halfAt(p + 82);
    for (int h = 0; h < 2; h++) {
      g.scales[h] = d * static_cast<float>(p[2 * j + h] & 15);
      g.minimums[h] = -(dmin * static_cast<float>(p[2 * j + h] >> 4));
    }
    const uint8_t* pairs = p + 16 + 32 * half;
    for (int i = 0; i < 32; i++) g.levels[i] = static_cast<int8_t>((pairs[i] >> (2 * quarter)) & 3);
  } else if constexpr (kFormat == WeightFormat::q3_k) {
    const float d = halfAt(p + 108);
    for (int h = 0; h < 2; h++) g.scales[h] = d * static_cast<float>(q3Scale(p + 96, 2 * j + h));
    const uint8_t* pairs = p + 32 + 32 * half;
    for (int i = 0; i < 32; i++) g.levels[i] = static_cast<int8_t>((((pairs[i] >> (2 * quarter)) & 3) | (((p[i] >> j) & 1) << 2)) - 4);
  } else if constexpr (kFormat == WeightFormat::q4_k) {
    kScales(p, j, g);
    const uint8_t* nibbles = p + 16 + 32 * (j / 2);
    for (int i = 0; i < 32; i++) g.levels[i] = static_cast<int8_t>((nibbles[i] >> (4 * (j % 2))) & 15);
  } else if constexpr (kFormat == WeightFormat::q5_k) {
    kScales(p, j, g);
    const uint8_t* nibbles = p + 48 + 32 * (j / 2);
    for (int i = 0; i < 32; i++) g.levels[i] = static_cast<int8_t>(((nibbles[i] >> (4 * (j % 2))) & 15) | (((p[16 + i] >> j) & 1) << 4));
  } else if constexpr (kFormat == WeightFormat::q6_k) {
    const float d = halfAt(p + 208);
    for (int h = 0; h < 2; h++) g.scales[h] = d * static_cast<float>(static_cast<int8_t>(p[192 + 2 * j + h]));
    const uint8_t *nibbles = p + 64 * half + 32 * (quarter % 2), *pairs = p + 128 + 32 * half;
    for (int i = 0; i < 32; i++)
      g.levels[i] = static_cast<int8_t>((((nibbles[i] >> (4 * (quarter / 2))) & 15) | (((pairs[i] >> (2 * quarter)) & 3) << 4)) - 32);
  } else if constexpr (kFormat == WeightFormat::iq4_nl) {
    setScale(g, halfAt(p));
    tableLevels(p + 2, kUnevenLevels, g);
  } else if constexpr (kFormat == WeightFormat::iq4_xs) {
    const int scale = (((p[4 + j / 2] >> (4 * (j % 2))) & 15) | (((p[2 + half] >> (2 * quarter)) & 3) << 4)) - 32;
    setScale(g, halfAt(p) * static_cast<float>(scale));
    tableLevels(p + 8 + 16 * j, kUnevenLevels, g);
  } else if constexpr (kFormat == WeightFormat::mxfp4) {
    const uint32_t exponent = p[0];  // half of 2^(exponent - 127), since the levels are doubled
    setScale(g, bitCast<float>(exponent < 2 ? 0x00200000u << exponent : exponent == 255 ? 0x7fc00000u : (exponent - 1) << 23));
    tableLevels(p + 1, kE2m1Doubled, g);
  }
}

template <WeightFormat kFormat>
MILLRACE_INLINE float groupValue(const BlockGroup& g, int i) {
  const int half = i / 16;
  const float product = g.scales[half] * static_cast<float>(g.levels[i]);
  return BlockTraits<kFormat>::kMinimums ? product + g.minimums[half] : product;
}

// The 32 values of group `index` of a row of blocks.
template <WeightFormat kFormat>
MILLRACE_INLINE void readValues(const uint8_t* row, int index, float* out) {
  if constexpr (isFloatGroups(kFormat)) {
    readFloatGroup<kFormat>(row, index, out);
  } else {
    BlockGroup group;
    readGroup<kFormat>(row, index, group);
    for (int i = 0; i < 32; i++) out[i] = groupValue<kFormat>(group, i);
  }
}

// Calls f.template run<kFormat>() for the kept format `format`.
template <class F>
MILLRACE_INLINE void withBlockFormat(WeightFormat format, F&& f) {
  switch (format) {
    case WeightFormat::q4_1: return f.template run<WeightFormat::q4_1>();
    case WeightFormat::q5_0: return f.template run<WeightFormat::q5_0>();
    case WeightFormat::q5_1: return f.template run<WeightFormat::q5_1>();
    case WeightFormat::q2_k: return f.template run<WeightFormat::q2_k>();
    case WeightFormat::q3_k: return f.template run<WeightFormat::q3_k>();
    case WeightFormat::q4_k: return f.template run<WeightFormat::q4_k>();
    case WeightFormat::q5_k: return f.template run<WeightFormat::q5_k>();
    case WeightFormat::q6_k: return f.template run<WeightFormat::q6_k>();
    case WeightFormat::iq4_nl: return f.template run<WeightFormat::iq4_nl>();
    case WeightFormat::iq4_xs: return f.template run<WeightFormat::iq4_xs>();
    case WeightFormat::mxfp4: return f.template run<WeightFormat::mxfp4>();
    case WeightFormat::iq2_xxs: return f.template run<WeightFormat::iq2_xxs>();
    case WeightFormat::iq2_xs: return f.template run<WeightFormat::iq2_xs>();
    case WeightFormat::iq2_s: return f.template run<WeightFormat::iq2_s>();
    case WeightFormat::iq3_xxs: return f.template run<WeightFormat::iq3_xxs>();
    case WeightFormat::iq3_s: return f.template run<WeightFormat::iq3_s>();
    case WeightFormat::iq1_s: return f.template run<WeightFormat::iq1_s>();
    case WeightFormat::iq1_m: return f.template run<WeightFormat::iq1_m>();
    case WeightFormat::tq1_0: return f.template run<WeightFormat::tq1_0>();
    case WeightFormat::tq2_0: return f.template run<WeightFormat::tq2_0>();
    case WeightFormat::int2_g32: return f.template run<WeightFormat::int2_g32>();
    case WeightFormat::int2_g64: return f.template run<WeightFormat::int2_g64>();
    case WeightFormat::int2_g128: return f.template run<WeightFormat::int2_g128>();
    case WeightFormat::int3_g32: return f.template run<WeightFormat::int3_g32>();
    case WeightFormat::int3_g64: return f.template run<WeightFormat::int3_g64>();
    case WeightFormat::int3_g128: return f.template run<WeightFormat::int3_g128>();
    case WeightFormat::int4_g32: return f.template run<WeightFormat::int4_g32>();
    case WeightFormat::int4_g64: return f.template run<WeightFormat::int4_g64>();
    case WeightFormat::int4_g128: return f.template run<WeightFormat::int4_g128>();
    case WeightFormat::int8_g32: return f.template run<WeightFormat::int8_g32>();
    case WeightFormat::int8_g128: return f.template run<WeightFormat::int8_g128>();
    case WeightFormat::fp8_g32: return f.template run<WeightFormat::fp8_g32>();
    case WeightFormat::fp8_g128: return f.template run<WeightFormat::fp8_g128>();
    case WeightFormat::fp8_e5m2_g32: return f.template run<WeightFormat::fp8_e5m2_g32>();
    case WeightFormat::fp8_e5m2_g128: return f.template run<WeightFormat::fp8_e5m2_g128>();
    case WeightFormat::nf4: return f.template run<WeightFormat::nf4>();
    default: return;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
