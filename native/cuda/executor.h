// Runs the nodes of one entry of a step: launches in the order of the plan, nothing waits.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "../common/counters.h"
#include "../common/step.h"
#include "batch_upload.h"
#include "runtime.h"

namespace millrace::cuda {

// The rows that were sampled last, on the device.
struct LastTokens {
  const int32_t* ids;
  int32_t numRows = 0;
  int32_t vocabSize = 0;  // ids are below
};

struct ExecutionContext {
  const Stream& stream;
  float* partials;  // kMostPartials floats
  Counters& counters;
  std::atomic<uint64_t>& replayedSteps;
  const std::atomic<bool>& stopping;
  const LastTokens& lastTokens;
};

// What the launches of a step depend on besides the arrays of its batch: equal for steps that replay one recording.
struct StepShape {
  int32_t numSplits;
  bool resolvesTokens;  // some ids are those of rows that the step before sampled
};

// Entries before `index` have been launched. The batch must have passed checkEntry. Arrays are gathered in `host` and brought over by `upload`.
void runEntry(const std::vector<StepEntry>& entries, size_t index, BatchUpload& upload, PinnedBuffer& host, const ExecutionContext& context);

// For an entry without embeddings or blocks to copy: the same in two halves. What is recorded serves every batch of the same sizes and shape that is
// brought by the same upload.
void bringEntry(const StepEntry& entry, const StepShape& shape, BatchUpload& upload, PinnedBuffer& host, const ExecutionContext& context);
void recordEntry(const StepEntry& entry, const StepShape& shape, BatchUpload& upload, PinnedBuffer& host, const ExecutionContext& context,
                 std::unique_ptr<Graph>& graph);

// Splits of KV of the token with the most keys.
int32_t splitsOf(const ForwardBatch& batch);

}  // namespace millrace::cuda
