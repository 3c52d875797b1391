// Runs the nodes of one entry of a step: launches in the order of the plan, nothing waits.
#pragma once

#include <atomic>
#include <vector>

#include "../common/counters.h"
#include "../common/step.h"
#include "batch_upload.h"
#include "cache.h"
#include "program.h"

namespace millrace::cuda {

struct ExecutionContext {
  const Stream& stream;
  BatchUpload& upload;
  float* partials;  // kMostPartials floats
  Counters& counters;
  const std::atomic<bool>& stopping;
  const std::vector<int32_t>& lastTokens;
};

// Entries before `index` have been launched. The batch must have passed checkEntry.
void runEntry(const std::vector<StepEntry>& entries, size_t index, const ExecutionContext& context);

}  // namespace millrace::cuda
