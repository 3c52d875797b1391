// One GPU: its stream, and the thread pool of the host that packs weights.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../common/sampling.h"
#include "../cpu/thread_pool.h"
#include "cache.h"
#include "executor.h"
#include "program.h"
#include "sampler.h"
#include "slot_ring.h"
#include "step_recordings.h"
#include "weight.h"

namespace millrace::cuda {

// The same members as cpu::Device, for the addon.
class Device {
 public:
  static constexpr bool kLaunchesAhead = true;

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

  // Launched when they return; what they return waits for the device, on any thread, and gives the results. The next step may be launched meanwhile.
  std::function<ForwardResult()> forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs);
  std::function<SampledRows()> sample(const Program& program, int32_t output, const SamplingColumns& columns, const Span<uint32_t>* masks);
  std::function<SampledRows()> sample(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks);

  // Records the launches of a step of `numTokens` rows of one token, for contexts of up to `maxContext`; returns how many recordings there are now.
  // Steps of as many rows or fewer replay them. Throws BACKEND_STEP_FAILED, MEMORY_INSUFFICIENT.
  int32_t recordSteps(const std::shared_ptr<Program>& program, const std::shared_ptr<Cache>& cache, int32_t numTokens, int32_t maxContext);

  void stop() { stopping_ = true; }
  Counters& counters() { return counters_; }
  // Steps so far that were a recording.
  uint64_t replayedSteps() const { return replayedSteps_; }
  void plantOrderFault(bool) {}  // a fault of the CPU's kernels

 private:
  struct ForwardSlot {
    std::vector<PinnedBuffer> batches;  // of the entries
    std::vector<int32_t> padding;
    Event begin, end;
  };
  struct SampleSlot {
    SamplerSlot sampling;
    PinnedBuffer logits;
    Event begin, end;
  };
  ExecutionContext context();
  std::function<SampledRows()> sampleRows(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks, std::shared_ptr<SampleSlot> slot);

  const DeviceProperties properties_;
  const int32_t ordinal_;
  cpu::WorkerPool pool_;
  Stream stream_;
  std::vector<BatchUpload> uploads_;  // of the entries of a step
  SlotRing<ForwardSlot> forwardSlots_;
  SlotRing<SampleSlot> sampleSlots_;
  Buffer partials_, hostLogits_;
  Sampler sampler_;
  Counters counters_;
  std::atomic<uint64_t> replayedSteps_{0};
  std::atomic<bool> stopping_{false};
  LastTokens lastTokens_{};  // sampled by the last step (S2)
};

}  // namespace millrace::cuda
