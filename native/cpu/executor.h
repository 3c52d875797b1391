// Runs the nodes of one entry of a step.
#pragma once

#include <atomic>
#include <vector>

#include "../common/counters.h"
#include "../common/step.h"
#include "cache.h"
#include "program.h"

namespace millrace::cpu {

// What the nodes of a step share.
struct ExecutionContext {
  const KernelTable& kernels;
  ThreadPool& pool;
  Counters& counters;
  bool plantedOrderFault;
  const std::atomic<bool>& stopping;
  const std::vector<int32_t>& lastTokens;
};

// Copies blocks, brings in the input, runs the nodes. Entries before `index` have run.
void runEntry(const std::vector<StepEntry>& entries, size_t index, const ExecutionContext& context);

}  // namespace millrace::cpu
