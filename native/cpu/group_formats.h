// Groups of 32 elements out of blocks of integer groups, FP8 and NF4 (src/quant/formats/integer-groups.ts, fp8.ts, nf4.ts). Included by block_formats.h only.
#pragma once

#include "../common/weight_formats.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

constexpr bool isIntegerGroups(WeightFormat f) { return f >= WeightFormat::int2_g32 && f <= WeightFormat::int8_g128; }
constexpr bool isE5m2(WeightFormat f) { return f == WeightFormat::fp8_e5m2_g32 || f == WeightFormat::fp8_e5m2_g128; }
constexpr bool isFp8(WeightFormat f) { return f == WeightFormat::fp8_g32 || f == WeightFormat::fp8_g128 || isE5m2(f); }
constexpr bool isFloatGroups(WeightFormat f) { return isFp8(f) || f == WeightFormat::nf4; }
constexpr int bitsOfGroups(WeightFormat f) {
  return f <= WeightFormat::int2_g128 ? 2 : f <= WeightFormat::int3_g128 ? 3 : f <= WeightFormat::int4_g128 ? 4 : 8;
}
constexpr int elementsOf(WeightFormat f) {
  switch (f) {
#define MILLRACE_FORMAT(name, elements, bytes) case WeightFormat::name: return elements;
    MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
    default: return 1;
  }
}

constexpr int blockBytesOf(WeightFormat f) {
  switch (f) {
#define MILLRACE_FORMAT(name, elements, bytes) case WeightFormat::name: return bytes;
    MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
    default: return 0;
  }
}

// Levels of 32 elements of `kBits` bits.
template <int kBits>
MILLRACE_INLINE void integerLevels(const uint8_t* p, int8_t* levels) {
  if constexpr (kBits == 4) {
    for (int i = 0; i < 16; i++) levels[i] = static_cast<int8_t>(p[i] & 15);
    for (int i = 0; i < 16; i++) levels[16 + i] = static_cast<int8_t>(p[i] >> 4);
  } else if constexpr (kBits == 8) {
    for (int i = 0; i < 32; i++) levels[i] = static_cast<int8_t>(p[i] ^ 0x80);
  } else {
    for (int i = 0; i < 32; i++) levels[i] = static_cast<int8_t>((p[i & 7] >> (2 * (i >> 3))) & 3);
    if constexpr (kBits == 3)
      for (int i = 0; i < 32; i++) levels[i] = static_cast<int8_t>(levels[i] | (((p[8 + (i >> 3)] >> (i & 7)) & 1) << 2));
  }
}

// Levels, scale and minimum of group `index` of a row of blocks. Levels of 8 bits are 128 less than stored.
template <WeightFormat kFormat>
MILLRACE_INLINE void readIntegerGroup(const uint8_t* row, int index, int8_t* levels, float* scale, float* minimum) {
  constexpr int bits = bitsOfGroups(kFormat), perBlock = elementsOf(kFormat) / 32, head = bits == 8 ? 5 : 4;
  const uint8_t* p = row + int64_t{index / perBlock} * blockSize(kFormat).bytes;
  const uint32_t word = readAs<uint32_t>(p);
  *scale = bitCast<float>(bits == 8 ? word : word & 0xffffff00u);
  const int zero = bits == 8 ? p[4] - 128 : static_cast<int>(word & 255);
  *minimum = zero == 0 ? 0.0f : -(*scale * static_cast<float>(zero));
  integerLevels<bits>(p + head + index % perBlock * (4 * bits), levels);
}

// E4M3FN without its NaNs: the bits of an f16 with the exponent off by 8, so that one product makes an f32 of it.
MILLRACE_INLINE float e4m3ToFloat(uint8_t bits) {
  const uint32_t magnitude = bits & 127u, sign = static_cast<uint32_t>(bits & 128u) << 24;
  if (magnitude == 127u) return bitCast<float>(sign | 0x7fc00000u);
  return bitCast<float>(sign | bitCast<uint32_t>(bitCast<float>(magnitude << 20) * 0x1p120f));
}

// E5M2: the upper byte of an f16, infinities and NaNs included.
MILLRACE_INLINE float e5m2ToFloat(uint8_t bits) { return f16ToF32(static_cast<uint16_t>(bits << 8)); }

constexpr float kNf4Levels[16] = {-1.0f,
                                  -0.6961928009986877f,
                                  -0.5250730514526367f,
                                  -0.39491748809814453f,
                                  -0.28444138169288635f,
                                  -0.18477343022823334f,
                                  -0.09105003625154495f,
                                  0.0f,
                                  0.07958029955625534f,
                                  0.16093020141124725f,
                                  0.24611230194568634f,
                                  0.33791524171829224f,
                                  0.44070982933044434f,
                                  0.5626170039176941f,
                                  0.7229568362236023f,
                                  1.0f};

// Values of group `index` of a row of blocks whose levels are no integers.
template <WeightFormat kFormat>
MILLRACE_INLINE void readFloatGroup(const uint8_t* row, int index, float* out) {
  constexpr int perBlock = elementsOf(kFormat) / 32;
  const uint8_t* p = row + int64_t{index / perBlock} * blockSize(kFormat).bytes;
  const float scale = readAs<float>(p);
  if constexpr (isFp8(kFormat)) {
    p += 4 + index % perBlock * 32;
    for (int i = 0; i < 32; i++) out[i] = scale * (isE5m2(kFormat) ? e5m2ToFloat(p[i]) : e4m3ToFloat(p[i]));
  } else {
    p += 4 + index % perBlock * 16;
    for (int i = 0; i < 16; i++) {
      out[2 * i] = scale * kNf4Levels[p[i] >> 4];
      out[2 * i + 1] = scale * kNf4Levels[p[i] & 15];
    }
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
