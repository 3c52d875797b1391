// The sampler: rows of logits in, one token a row out, operation for operation src/sampling/sampler.ts: same bits. A block takes a row at a time, with
// scratch of its own in memory; what is summed in order is summed by its first thread, over numbers that all have computed.
// Reads a row's logits from one (greedy) to about ten times. Shares of the limits: not measured yet.
#include "launch.h"
#include "sampler_draw.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = kSamplerThreads;

__global__ void __launch_bounds__(kThreads) greedyKernel(ConstRows logits, int32_t vocabSize, int32_t* tokenIds, int32_t* states) {
  __shared__ SamplerShared shared;
  const Best best = bestOf(shared, logits.data + blockIdx.x * logits.stride, vocabSize);
  if (threadIdx.x != 0) return;
  const int32_t state = stateOf(best.logit);
  states[blockIdx.x] = state;
  tokenIds[blockIdx.x] = state == 0 ? best.id : 0;
}

// One row.
class RowSampler : public RowDrawer {
 public:
  using RowDrawer::RowDrawer;

  MILLRACE_GPU void sample() {
    report(0, 0, NAN, NAN);
    for (int32_t i = first(); i < args_.maxTop; i += kThreads) {
      args_.topTokenIds[int64_t{row_} * args_.maxTop + i] = -1;
      args_.topLogprobs[int64_t{row_} * args_.maxTop + i] = NAN;
    }
    settle();
    if (stateOf(maximum_) != 0) return report(0, stateOf(maximum_), NAN, NAN);
    const bool wasInfinite = isInfinite_;
    const float rawMaximum = maximum_;
    const int32_t numLogprobs = c_.numLogprobs[row_];
    float logSum = 0;
    if (numLogprobs >= 0) {
      logSum = logF32(blockedSum([&](int32_t id) { return weightOf(logits_[id], rawMaximum, 1.0f); }));
      reportAlternatives(numLogprobs, logSum);
    }
    if (process()) {
      settle();
      if (stateOf(maximum_) != 0) return report(0, stateOf(maximum_), NAN, NAN);
    }
    float mu = NAN;
    const int32_t token = choose(mu);
    const float logit = !wasInfinite ? raw_[token] : raw_[token] == INFINITY ? 0.0f : -INFINITY;
    report(token, 0, numLogprobs < 0 ? NAN : (logit - rawMaximum) - logSum, mu);
  }

 private:
  MILLRACE_GPU void report(int32_t token, int32_t state, float logprob, float mu) const {
    if (threadIdx.x != 0) return;
    args_.tokenIds[row_] = token;
    args_.states[row_] = state;
    args_.logprobs[row_] = logprob;
    args_.mirostatMu[row_] = mu;
  }

  // Makes logits_ a copy that may be changed.
  MILLRACE_GPU void own() {
    if (logits_ == own_) return;
    for (int32_t id = first(); id < n_; id += kThreads) own_[id] = logits_[id];
    logits_ = own_;
    __syncthreads();
  }

  // The largest logit, NaN if any is, and its id. Where it is +Infinity, those are 0 and all others -Infinity.
  MILLRACE_GPU void settle() {
    __syncthreads();
    const Best best = bestOf(shared_, logits_, n_);
    maximum_ = best.logit;
    bestId_ = best.id;
    if (maximum_ != INFINITY) return;
    isInfinite_ = true;
    own();
    for (int32_t id = first(); id < n_; id += kThreads) own_[id] = own_[id] == INFINITY ? 0.0f : -INFINITY;
    maximum_ = 0.0f;
    __syncthreads();
  }

  MILLRACE_GPU void reportAlternatives(int32_t k, float logSum) {
    const int64_t at = int64_t{row_} * args_.maxTop;
    Order<ByLogit> order(shared_.order, ByLogit{logits_, true}, n_);
    for (int32_t done = 0, count = 1; done < k && (count = order.next()) > 0; done += count) {
      for (int32_t i = first(); i < count && done + i < k; i += kThreads) {
        const int32_t id = static_cast<int32_t>(shared_.order.keys[i] & 0xffffffffu);
        args_.topTokenIds[at + done + i] = id;
        args_.topLogprobs[at + done + i] = (logits_[id] - maximum_) - logSum;
      }
      __syncthreads();
    }
    // behind them, even where the vocabulary has fewer
    for (int32_t i = c_.wantedStart[row_] + first(), place = k + first(); i < c_.wantedStart[row_ + 1]; i += kThreads, place += kThreads) {
      const int32_t id = c_.wantedIds[i];
      if (id < 0 || id >= n_) continue;
      args_.topTokenIds[at + place] = id;
      args_.topLogprobs[at + place] = (logits_[id] - maximum_) - logSum;
    }
    __syncthreads();
  }

  MILLRACE_GPU bool process() {
    const int32_t biasBegin = c_.biasStart[row_], biasEnd = c_.biasStart[row_ + 1];
    const bool penalised = c_.historyStart[row_ + 1] > c_.historyStart[row_] &&
                           (c_.repetitionPenalty[row_] != 1.0f || c_.presencePenalty[row_] != 0.0f || c_.frequencyPenalty[row_] != 0.0f);
    if (biasEnd <= biasBegin && !penalised && args_.masks == nullptr) return false;
    own();
    // an id may come twice: each thread goes through all, for the ids that are its own, in order
    for (int32_t i = biasBegin; i < biasEnd; i++) {
      const int32_t id = c_.biasIds[i];
      if (id < 0 || id >= n_ || id % kThreads != first()) continue;
      own_[id] = c_.biasValues[i] == -INFINITY ? -INFINITY : own_[id] + c_.biasValues[i];
    }
    __syncthreads();
    if (penalised) penalise();
    if (args_.masks != nullptr) {
      const uint32_t* mask = args_.masks + int64_t{row_} * ((n_ + 31) / 32);
      for (int32_t id = first(); id < n_; id += kThreads)
        if ((mask[id / 32] >> (id % 32) & 1u) == 0) own_[id] = -INFINITY;
    }
    __syncthreads();
    return true;
  }

  // counts_ is all zeros before and after.
  MILLRACE_GPU void penalise() {
    constexpr int32_t kSeen = 1 << 30;
    const int32_t begin = c_.historyStart[row_], end = c_.historyStart[row_ + 1], outputBegin = begin + c_.historyPrompt[row_];
    for (int32_t i = begin + first(); i < end; i += kThreads) {
      const int32_t id = c_.historyIds[i];
      if (id < 0 || id >= n_) continue;
      atomicOr(&counts_[id], kSeen);
      if (i >= outputBegin) atomicAdd(&counts_[id], 1);
    }
    __syncthreads();
    const float repetition = c_.repetitionPenalty[row_];
    for (int32_t i = begin + first(); i < end; i += kThreads) {
      const int32_t id = c_.historyIds[i];
      if (id < 0 || id >= n_) continue;
      const int32_t noted = atomicExch(&counts_[id], 0), count = noted & (kSeen - 1);
      if (noted == 0) continue;  // another thread has it
      float logit = own_[id];
      if (repetition != 1.0f) logit = logit > 0 ? logit / repetition : logit * repetition;
      if (count > 0) {
        logit = logit - static_cast<float>(count) * c_.frequencyPenalty[row_];
        logit = logit - c_.presencePenalty[row_];
      }
      own_[id] = logit;
    }
    __syncthreads();
  }
};

__global__ void __launch_bounds__(kThreads) sampleKernel(SamplerArgs args) {
  __shared__ SamplerShared shared;
  for (int32_t row = static_cast<int32_t>(blockIdx.x); row < args.columns.numRows; row += static_cast<int32_t>(gridDim.x)) {
    RowSampler(args, shared, row).sample();
    __syncthreads();
  }
}

}  // namespace

void greedy(ConstRows logits, int32_t rows, int32_t vocabSize, int32_t* tokenIds, int32_t* states, const Stream& stream) {
  launch(greedyKernel, {rows}, kThreads, 0, stream, logits, vocabSize, tokenIds, states);
}

void sampleRows(const SamplerArgs& args, int32_t numBlocks, const Stream& stream) {
  launch(sampleKernel, {args.columns.numRows < numBlocks ? args.columns.numRows : numBlocks}, kThreads, 0, stream, args);
}

}  // namespace millrace::cuda
