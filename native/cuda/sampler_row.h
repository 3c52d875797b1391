// A row of logits on the device: what the sampler's block of threads keeps of it, and sums over it.
#pragma once

#include "../common/philox.h"
#include "../common/sampling_math.h"
#include "kernels.h"
#include "sampler_order.h"

namespace millrace::cuda {

using samplingMath::expF32;
using samplingMath::kSumBlock;
using samplingMath::kSumLanes;
using samplingMath::logF32;

// The larger logit wins, of equals the lower id; -0 and 0 are equal. A NaN wins against all.
struct Best {
  float logit;
  int32_t id;
};
MILLRACE_GPU Best betterOf(Best a, Best b) {
  if (a.logit != a.logit) return a;
  if (b.logit != b.logit) return b;
  const bool second = b.logit > a.logit || (b.logit == a.logit && b.id < a.id);
  return second ? b : a;
}

struct SamplerShared {
  OrderShared order;
  float weights[kChunk];
  float bestLogits[kSamplerWarps];
  int32_t bestIds[kSamplerWarps];
  float value, sum;
  int32_t count, place, isDone;
};

MILLRACE_GPU Best bestOf(SamplerShared& shared, const float* row, int32_t n) {
  Best best{-INFINITY, 0x7fffffff};
  for (int32_t id = static_cast<int32_t>(threadIdx.x); id < n; id += kSamplerThreads) best = betterOf(best, Best{row[id], id});
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    const Best other{__shfl_xor_sync(0xffffffffu, best.logit, apart), __shfl_xor_sync(0xffffffffu, best.id, apart)};
    best = betterOf(best, other);
  }
  __syncthreads();
  if (threadIdx.x % kWarp == 0) {
    shared.bestLogits[threadIdx.x / kWarp] = best.logit;
    shared.bestIds[threadIdx.x / kWarp] = best.id;
  }
  __syncthreads();
  for (int i = 0; i < kSamplerWarps; i++) best = betterOf(best, Best{shared.bestLogits[i], shared.bestIds[i]});
  return best;
}

MILLRACE_GPU int32_t stateOf(float maximum) { return maximum != maximum ? 1 : maximum == -INFINITY ? 2 : 0; }

MILLRACE_GPU float weightOf(float logit, float maximum, float temperature) { return expF32((logit - maximum) / temperature); }

// All members are the same in all threads; every function is called by all.
class SampledRow {
 public:
  MILLRACE_GPU SampledRow(const SamplerArgs& args, SamplerShared& shared, int32_t row)
      : args_(args), c_(args.columns), shared_(shared), row_(row), n_(args.vocabSize), raw_(args.logits.data + row * args.logits.stride), logits_(raw_) {
    float* scratch = args.scratch + int64_t{blockIdx.x} * samplerScratchFloats(n_);
    own_ = scratch;
    weights_ = scratch + n_;
    ids_ = reinterpret_cast<int32_t*>(scratch + int64_t{2} * n_);
    counts_ = args.counts + int64_t{blockIdx.x} * n_;
    blockSums_ = scratch + int64_t{3} * n_;
  }

 protected:
  MILLRACE_GPU static int32_t first() { return static_cast<int32_t>(threadIdx.x); }

  // What the first thread computes, for all.
  template <class F>
  MILLRACE_GPU float byFirst(F compute) {
    __syncthreads();
    if (threadIdx.x == 0) shared_.value = compute();
    __syncthreads();
    return shared_.value;
  }

  // Sum over the vocabulary in blocks of kSumBlock, each in kSumLanes lanes; half a warp takes a block. Block sums stay in blockSums_.
  template <class F>
  MILLRACE_GPU float blockedSum(F valueOf) {
    const int32_t numBlocks = (n_ + kSumBlock - 1) / kSumBlock;
    const int lane = first() % kSumLanes;
    __syncthreads();
    for (int32_t pair = first() / kWarp * 2; pair < numBlocks; pair += kSamplerWarps * 2) {
      const int32_t block = pair + first() % kWarp / kSumLanes;
      const int32_t end = (block + 1) * kSumBlock < n_ ? (block + 1) * kSumBlock : n_;
      float sum = 0;
      for (int32_t id = block * kSumBlock + lane; id < end; id += kSumLanes) sum += valueOf(id);
      for (int apart = kSumLanes / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
      if (lane == 0 && block < numBlocks) blockSums_[block] = sum;
    }
    return byFirst([&] {
      float sum = 0;
      for (int32_t block = 0; block < numBlocks; block++) sum += blockSums_[block];
      return sum;
    });
  }

  const SamplerArgs& args_;
  const SamplingColumns& c_;
  SamplerShared& shared_;
  const int32_t row_, n_;
  const float* raw_;
  const float* logits_;
  float *own_, *weights_, *blockSums_;
  int32_t *ids_, *counts_;
  float maximum_ = 0, temperature_ = 0;
  int32_t bestId_ = 0, topK_ = 0;
  bool isInfinite_ = false;
};

}  // namespace millrace::cuda
