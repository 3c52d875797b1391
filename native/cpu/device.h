// One CPU backend: its kernels, threads and the sampler. Steps run on the thread that calls, one at a time, with the pool's help.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "../common/step.h"
#include "cache.h"
#include "kernels.h"
#include "limits.h"
#include "program.h"
#include "sampler.h"
#include "thread_pool.h"
#include "weight.h"

namespace millrace::cpu {

class Device {
 public:
  static constexpr bool kLaunchesAhead = false;  // a step is done when its function returns

  // An empty `isa` means the best that this machine has. Throws CONFIG_INVALID.
  Device(const std::string& isa, int32_t numThreads);

  const char* isa() const { return kernels_.isa; }
  int32_t numThreads() const { return pool_.numThreads(); }
  size_t memoryBytes() const { return 0; }  // that of the machine

  std::shared_ptr<Weight> makeWeight(const PlanWeight& shape, const std::vector<WeightPart>& parts, bool mapped);
  std::shared_ptr<Program> makeProgram(Plan plan, std::vector<std::shared_ptr<Weight>> weights, int32_t maxTokens, int32_t maxLogitRows) const;
  ProgramDescription describe(Plan plan, int32_t maxTokens, int32_t maxLogitRows) const;
  std::shared_ptr<Cache> makeCache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype) const;
  // Blocks [n, 2]: group, block; their bytes one behind the other.
  void readBlocks(const Cache& cache, const std::vector<int32_t>& blocks, uint8_t* bytes) const;
  void writeBlocks(const Cache& cache, const std::vector<int32_t>& blocks, const uint8_t* bytes) const;

  // Runs the entries in order and copies out the named outputs (indices in Plan::outputs) of the last. A step that fails changes no tokens that a
  // later one may refer to, and leaves the device usable. Throws BACKEND_STEP_FAILED, ENGINE_CLOSED after stop().
  ForwardResult forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs);
  // Samples rows of logits: those of the given output of a program as its last step left them, or [numRows, vocabSize] of the host's.
  // masks: [numRows, ceil(vocabSize / 32)], or null for none.
  SampledRows sample(const Program& program, int32_t output, const SamplingColumns& columns, const Span<uint32_t>* masks);
  SampledRows sample(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks);

  // Of the thread that calls and the pool's; see WorkerPool::pin.
  bool pinThreads() { return pool_.pin(); }

  // Reads numRegions regions of memory and runs multiply-adds, for a second or two.
  Limits measureLimits(size_t regionBytes, int32_t numRegions);

  // Ends the running step at its next node.
  void stop() { stopping_ = true; }

  Counters& counters() { return counters_; }
  void plantOrderFault(bool on) { plantedOrderFault_ = on; }

 private:
  SampledRows sampleRows(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks);

  const KernelTable& kernels_;
  WorkerPool pool_;
  Sampler sampler_;
  Counters counters_;
  std::atomic<bool> plantedOrderFault_{false};
  std::atomic<bool> stopping_{false};
  std::vector<int32_t> lastTokens_;  // sampled by the last step (S2)
};

}  // namespace millrace::cpu
