// One GPU: its stream, and the thread pool of the host that packs weights.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "../common/sampling.h"
#include "../cpu/thread_pool.h"
#include "cache.h"
#include "executor.h"
#include "program.h"
#include "sampler.h"
#include "weight.h"

namespace millrace::cuda {

// The same members as cpu::Device, for the addon.
class Device {
 public:
  // `isa`: the ordinal of the device, or empty for the first. Throws GPU_UNAVAILABLE, CONFIG_INVALID.
  Device(const std::string& isa, int32_t numThreads);

  const char* isa() const { return properties_.isa.c_str(); }
  int32_t numThreads() const { return pool_.numThreads(); }
  // Free when the device was opened: what weights and caches may take together.
  size_t memoryBytes() const { return properties_.freeBytes; }

  std::shared_ptr<Weight> makeWeight(const PlanWeight& shape, const std::vector<WeightPart>& parts, bool mapped);
  std::shared_ptr<Program> makeProgram(Plan plan, std::vector<std::shared_ptr<Weight>> weights, int32_t maxTokens, int32_t maxLogitRows) const;
  ProgramDescription describe(Plan plan, int32_t maxTokens, int32_t maxLogitRows) const;
  std::shared_ptr<Cache> makeCache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype) const;
  void readBlocks(const Cache& cache, const std::vector<int32_t>& blocks, uint8_t* bytes) const;
  void writeBlocks(const Cache& cache, const std::vector<int32_t>& blocks, const uint8_t* bytes) const;

  ForwardResult forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs);
  SampledRows sample(const Program& program, int32_t output, const SamplingColumns& columns, const Span<uint32_t>* masks);
  SampledRows sample(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks);

  void stop() { stopping_ = true; }
  Counters& counters() { return counters_; }
  void plantOrderFault(bool) {}  // a fault of the CPU's kernels

 private:
  SampledRows sampleRows(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks);

  const DeviceProperties properties_;
  const int32_t ordinal_;
  cpu::WorkerPool pool_;
  Stream stream_;
  BatchUpload upload_;
  Buffer partials_, hostLogits_;
  Sampler sampler_;
  Counters counters_;
  std::atomic<bool> stopping_{false};
  std::vector<int32_t> lastTokens_;  // sampled by the last step (S2)
};

}  // namespace millrace::cuda
