// The sampler: rows of logits in, one token a row out. src/sampling/sampler.ts defines it; this gives the same bits.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/sampling.h"
#include "kernels.h"
#include "sampler_kernels.h"

namespace millrace::cpu {

class Sampler {
 public:
  Sampler(const SamplerKernels& kernels, int numThreads) : kernels_(kernels), scratch_(static_cast<size_t>(numThreads)) {}

  // masks: allowed-token bits [numRows, ceil(vocabSize / 32)] or null. Rows go to threads one by one.
  // Throws BACKEND_STEP_FAILED for columns that contradict themselves.
  SampledRows sample(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const uint32_t* masks, ThreadPool& pool);

 private:
  struct RowScratch {
    std::vector<float> logits, weights, blockSums, maxima;
    std::vector<int32_t> ids, counts;
    std::vector<uint64_t> keys, spare;
  };
  friend class RowSampler;

  const SamplerKernels& kernels_;
  std::vector<RowScratch> scratch_;  // one per worker
};

}  // namespace millrace::cpu
