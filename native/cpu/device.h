// One CPU backend: its kernels, threads and the sampler. Steps run on the thread that calls, one at a time, with the pool's help.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "sampler.h"
#include "step.h"
#include "thread_pool.h"

namespace millrace::cpu {

class Device {
 public:
  // An empty `isa` means the best that this machine has. Throws CONFIG_INVALID.
  Device(const std::string& isa, int32_t numThreads);

  const KernelTable& kernels() const { return kernels_; }
  WorkerPool& pool() { return pool_; }

  // Runs the entries in order and copies out the named outputs (indices in Plan::outputs) of the last. A step that fails changes no tokens that a
  // later one may refer to, and leaves the device usable. Throws BACKEND_STEP_FAILED, ENGINE_CLOSED after stop().
  ForwardResult forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs);
  // Samples rows of logits: those of the given output of a program as its last step left them, or given ones.
  SampledRows sample(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const uint32_t* masks);
  ConstRows logitsOf(const Program& program, int32_t output, int32_t numRows, int32_t& vocabSize) const;

  // Ends the running step at its next node.
  void stop() { stopping_ = true; }

  Counters& counters() { return counters_; }
  void plantOrderFault(bool on) { plantedOrderFault_ = on; }

 private:
  const KernelTable& kernels_;
  WorkerPool pool_;
  Sampler sampler_;
  Counters counters_;
  std::atomic<bool> plantedOrderFault_{false};
  std::atomic<bool> stopping_{false};
  std::vector<int32_t> lastTokens_;  // sampled by the last step (S2)
};

}  // namespace millrace::cpu
