// The sampler: rows of logits in, one token a row out. src/sampling/sampler.ts defines it; this gives the same bits.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "sampler_kernels.h"

namespace millrace::cpu {

// Columns of src/sampling/sampling-batch.ts. Pointers are the caller's, valid for numRows rows.
struct SamplingColumns {
  int32_t numRows = 0;
  const float *temperature, *topP, *minP, *repetitionPenalty, *presencePenalty, *frequencyPenalty;
  const int32_t* topK;
  const uint32_t *seed, *choice, *position;
  const int32_t* numLogprobs;
  const int32_t *historyIds, *historyStart, *historyPrompt;
  const int32_t *biasIds, *biasStart;
  const float* biasValues;
  const float* shaping = nullptr;  // [numRows, kShapingWidth] or null
  const int32_t *wantedIds, *wantedStart;
  // Elements of historyIds, biasIds (biasValues) and wantedIds: the starts are checked against them.
  int64_t historyLength, biasLength, wantedLength;
};

struct SampledRows {
  std::vector<int32_t> tokenIds;
  std::vector<float> logprobs;
  std::vector<int32_t> topTokenIds;
  std::vector<float> topLogprobs;
  int32_t maxTopLogprobs = 0;
  std::vector<uint8_t> corrupted;  // 0 fine, 1 a NaN among the logits, 2 nothing allowed
  std::vector<float> mirostatMu;   // NaN where mirostat is off
};

class Sampler {
 public:
  Sampler(const SamplerKernels& kernels, int numThreads) : kernels_(kernels), scratch_(static_cast<size_t>(numThreads)) {}

  // masks: allowed-token bits [numRows, ceil(vocabSize / 32)] or null. Rows go to threads one by one.
  // Throws BACKEND_STEP_FAILED for columns that contradict themselves.
  SampledRows sample(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const uint32_t* masks, ThreadPool& pool);

 private:
  struct RowScratch {
    std::vector<float> logits, weights, blockSums;
    std::vector<int32_t> ids, counts;
    std::vector<uint64_t> keys, spare;
  };
  friend class RowSampler;

  const SamplerKernels& kernels_;
  std::vector<RowScratch> scratch_;  // one per worker
};

}  // namespace millrace::cpu
