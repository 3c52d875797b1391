// exp and log of the sampler, operation for operation src/sampling/arithmetic.ts: same bits. Needs -ffp-contract=off.
#pragma once

#include <cstdint>
#include <cstring>

#include "both.h"

namespace millrace::samplingMath {

constexpr float kLog2E = 1.44269502f;
constexpr float kLn2High = 0.693359375f;
constexpr float kLn2Low = -0.000212194442f;
constexpr float kRounder = 12582912.0f;
constexpr float kExpMin = -87.0f;
constexpr int kSumBlock = 1024;
constexpr int kSumLanes = 16;

// exp(x) for x <= 0; 0 below -87, -Infinity and NaN included. Written without branches, so that a loop over it vectorises.
MILLRACE_BOTH static inline float expF32(float x) {
  const bool counts = x >= kExpMin;
  const float v = counts ? x : 0.0f;
  const float n = (v * kLog2E + kRounder) - kRounder;
  const float r = (v - n * kLn2High) - n * kLn2Low;
  float p = 0.000199178307f;
  p = p * r + 0.00139460864f;
  p = p * r + 0.00833326578f;
  p = p * r + 0.0416662693f;
  p = p * r + 0.166666672f;
  p = p * r + 0.5f;
  p = (p * (r * r) + r) + 1.0f;
  const int32_t powerBits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &powerBits, sizeof power);
  return counts ? p * power : 0.0f;
}

// log(x) for a positive normal x.
MILLRACE_BOTH static inline float logF32(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  int32_t exponent = (bits >> 23) - 126;
  const int32_t digits = (bits & 0x007fffff) | 0x3f000000;
  float m;
  std::memcpy(&m, &digits, sizeof m);
  if (m < 0.707106769f) {
    exponent -= 1;
    m = (m + m) - 1.0f;
  } else {
    m = m - 1.0f;
  }
  const float square = m * m;
  float p = 0.0691557825f;
  p = p * m + -0.117887996f;
  p = p * m + 0.118723094f;
  p = p * m + -0.123844944f;
  p = p * m + 0.142187804f;
  p = p * m + -0.166692451f;
  p = p * m + 0.200022191f;
  p = p * m + -0.249999866f;
  p = p * m + 0.333333105f;
  float y = (p * m) * square;
  y = y + static_cast<float>(exponent) * kLn2Low;
  y = y - 0.5f * square;
  return (m + y) + static_cast<float>(exponent) * kLn2High;
}

}  // namespace millrace::samplingMath
