// Plain loops over the vocabulary that the compiler vectorises; see sampler_kernels.h. About 4 to 12 bytes of cache traffic per id.
#include "sampler_kernels.h"

#include "../common/sampling_math.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

using samplingMath::expF32;
using samplingMath::kSumBlock;
using samplingMath::kSumLanes;

constexpr int kLanes = 64;
constexpr int32_t kChunk = 512;

float maximum(const float* values, int32_t n) {
  float lanes[kLanes];
  int32_t nan[kLanes] = {};
  for (int l = 0; l < kLanes; l++) lanes[l] = -__builtin_inff();
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; l++) {
      const float v = values[i + l];
      lanes[l] = v > lanes[l] ? v : lanes[l];
      nan[l] |= v != v ? 1 : 0;
    }
  }
  for (int l = 0; i + l < n; l++) {
    const float v = values[i + l];
    lanes[l] = v > lanes[l] ? v : lanes[l];
    nan[l] |= v != v ? 1 : 0;
  }
  float best = lanes[0];
  int32_t anyNan = 0;
  for (int l = 0; l < kLanes; l++) {
    best = lanes[l] > best ? lanes[l] : best;
    anyNan |= nan[l];
  }
  return anyNan != 0 ? __builtin_nanf("") : best;
}

// Chunks are scanned without a branch inside, so that only the chunk with the hit is walked.
int32_t firstEqual(const float* values, int32_t n, float wanted) {
  int32_t begin = 0;
  for (; begin + kChunk <= n; begin += kChunk) {
    int32_t hits = 0;
    for (int32_t i = 0; i < kChunk; i++) hits |= values[begin + i] == wanted ? 1 : 0;
    if (hits != 0) break;
  }
  for (; begin < n; begin++)
    if (values[begin] == wanted) return begin;
  return n;
}

void weights(const float* logits, int32_t n, float maximum, float temperature, float least, float* out) {
  for (int32_t i = 0; i < n; i++) {
    const float weight = expF32((logits[i] - maximum) / temperature);
    out[i] = weight < least ? 0.0f : weight;
  }
}

float sumLanes(const float* values, int32_t n) {
  float lanes[kSumLanes] = {};
  int32_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes)
    for (int l = 0; l < kSumLanes; l++) lanes[l] += values[i + l];
  for (int l = 0; i + l < n; l++) lanes[l] += values[i + l];
  for (int width = kSumLanes / 2; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
  return lanes[0];
}

float sumBlocks(const float* values, int32_t n, float* blockSums) {
  float sum = 0;
  for (int32_t begin = 0, block = 0; begin < n; begin += kSumBlock, block++) {
    const float blockSum = sumLanes(values + begin, n - begin < kSumBlock ? n - begin : kSumBlock);
    if (blockSums != nullptr) blockSums[block] = blockSum;
    sum += blockSum;
  }
  return sum;
}

int32_t gather(const float* logits, int32_t n, float least, int32_t* ids) {
  int32_t count = 0;
  for (int32_t begin = 0; begin < n; begin += kChunk) {
    const int32_t end = n - begin < kChunk ? n : begin + kChunk;
    int32_t hits = 0;
    for (int32_t i = begin; i < end; i++) hits += logits[i] >= least ? 1 : 0;
    if (hits == 0) continue;
    for (int32_t i = begin; i < end; i++)
      if (logits[i] >= least && logits[i] > -__builtin_inff()) ids[count++] = i;
  }
  return count;
}

}  // namespace

const SamplerKernels& samplerKernels() {
  static constexpr SamplerKernels kernels = {maximum, firstEqual, weights, sumBlocks, gather};
  return kernels;
}

}  // namespace millrace::cpu::MILLRACE_ISA
