// Ways of shaping a distribution, operation for operation src/sampling/shaping.ts: same bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "../common/sampling.h"
#include "../common/sampling_math.h"
#include "../common/sampling_shape.h"
#include "sampler_kernels.h"

namespace millrace::cpu {

inline float dynamicTemperature(const SamplerKernels& kernels, const float* logits, int32_t n, float maximum, float temperature, const Shaping& shaping,
                                float* scratch) {
  if (!(shaping.dynatempRange > 0)) return temperature;
  int32_t count = 0;
  for (int32_t id = 0; id < n; id++) count += logits[id] > -std::numeric_limits<float>::infinity() ? 1 : 0;
  if (count < 2) return temperature;
  const float total = kernels.weights(logits, nullptr, n, maximum, 1.0f, 0.0f, scratch, nullptr);
  for (int32_t id = 0; id < n; id++)
    if (scratch[id] > 0) scratch[id] = scratch[id] * (logits[id] - maximum);
  const float entropy = samplingMath::logF32(total) - kernels.sumBlocks(scratch, n) / total;
  const float share = std::min(1.0f, entropy / samplingMath::logF32(static_cast<float>(count)));
  const float power = share > 1e-30f ? samplingMath::expF32(shaping.dynatempExponent * samplingMath::logF32(share)) : 0.0f;
  const float least = std::max(0.0f, temperature - shaping.dynatempRange);
  return least + ((temperature + shaping.dynatempRange) - least) * power;
}

inline float sigmaLimit(const SamplerKernels& kernels, const float* logits, int32_t n, float maximum, float topNSigma, float* scratch) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (!(topNSigma > 0)) return -kInfinity;
  int32_t count = 0;
  for (int32_t id = 0; id < n; id++) {
    const bool counts = logits[id] > -kInfinity;
    count += counts ? 1 : 0;
    scratch[id] = counts ? logits[id] - maximum : 0.0f;
  }
  const float mean = kernels.sumBlocks(scratch, n) / static_cast<float>(count);
  for (int32_t id = 0; id < n; id++) {
    const float apart = logits[id] > -kInfinity ? (logits[id] - maximum) - mean : 0.0f;
    scratch[id] = apart * apart;
  }
  const float deviation = std::sqrt(kernels.sumBlocks(scratch, n) / static_cast<float>(count));
  return maximum - topNSigma * deviation;
}

inline void keepTypical(float* weights, int32_t count, float total, float typicalP, std::vector<uint64_t>& keys) {
  const float logTotal = samplingMath::logF32(total);
  float entropy = 0;
  for (int32_t i = 0; i < count; i++) {
    const float logProbability = samplingMath::logF32(weights[i]) - logTotal;
    entropy = entropy - (weights[i] / total) * logProbability;
  }
  keys.resize(static_cast<size_t>(count));
  for (int32_t i = 0; i < count; i++) {
    const float distance = std::fabs((logTotal - samplingMath::logF32(weights[i])) - entropy);
    uint32_t bits;  // of a number that is not negative: they rise with it
    std::memcpy(&bits, &distance, sizeof bits);
    keys[static_cast<size_t>(i)] = (uint64_t{bits} << 32) | static_cast<uint32_t>(i);
  }
  std::sort(keys.begin(), keys.end());
  const float threshold = typicalP * total;
  float sum = 0;
  int32_t numKept = 0;
  while (numKept < count && (numKept == 0 || sum < threshold)) sum = sum + weights[keys[static_cast<size_t>(numKept++)] & 0xffffffffu];
  for (int32_t i = numKept; i < count; i++) weights[keys[static_cast<size_t>(i)] & 0xffffffffu] = 0;
}

inline void excludeTopChoices(float* weights, int32_t count, float total, float threshold) {
  const float least = threshold * total;
  int32_t last = -1;
  for (int32_t i = 0; i < count; i++)
    if (weights[i] > 0 && weights[i] >= least) last = i;
  for (int32_t i = 0; i < last; i++) weights[i] = 0;
}

inline float sumInOrder(const float* weights, int32_t count) {
  float sum = 0;
  for (int32_t i = 0; i < count; i++) sum = sum + weights[i];
  return sum;
}

// The place where the running sum exceeds `target`, at the latest the last of weight above 0.
inline int32_t placeOf(const float* weights, int32_t count, float target) {
  float sum = 0;
  int32_t place = 0;
  for (int32_t i = 0; i < count && !(sum > target); i++) {
    if (weights[i] > 0) place = i;
    sum = sum + weights[i];
  }
  return place;
}

}  // namespace millrace::cpu
