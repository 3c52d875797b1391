// The greedy half of the sampler: what temperature 0 without penalties, bias, masks or logprobs comes to. One block a row; bound by reading the logits.
#include "kernels.h"
#include "launch.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = 512;

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

__global__ void __launch_bounds__(kThreads) greedyKernel(ConstRows logits, int32_t vocabSize, int32_t* tokenIds, uint8_t* states) {
  __shared__ float bestLogits[kThreads / kWarp];
  __shared__ int32_t bestIds[kThreads / kWarp];
  const float* row = logits.data + blockIdx.x * logits.stride;
  Best best{-INFINITY, 0x7fffffff};
  for (int32_t id = static_cast<int32_t>(threadIdx.x); id < vocabSize; id += kThreads) best = betterOf(best, Best{row[id], id});
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    const Best other{__shfl_xor_sync(0xffffffffu, best.logit, apart), __shfl_xor_sync(0xffffffffu, best.id, apart)};
    best = betterOf(best, other);
  }
  if (threadIdx.x % kWarp == 0) {
    bestLogits[threadIdx.x / kWarp] = best.logit;
    bestIds[threadIdx.x / kWarp] = best.id;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int i = 1; i < kThreads / kWarp; i++) best = betterOf(best, Best{bestLogits[i], bestIds[i]});
  const bool broken = best.logit != best.logit, nothing = best.logit == -INFINITY;
  states[blockIdx.x] = broken ? 1 : nothing ? 2 : 0;
  tokenIds[blockIdx.x] = broken || nothing ? 0 : best.id;
}

}  // namespace

void greedy(ConstRows logits, int32_t rows, int32_t vocabSize, int32_t* tokenIds, uint8_t* states, const Stream& stream) {
  launch(greedyKernel, {rows}, kThreads, 0, stream, logits, vocabSize, tokenIds, states);
}

}  // namespace millrace::cuda
