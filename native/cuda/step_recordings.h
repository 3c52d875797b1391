// Steps of one token a row, as decoding is, recorded once and replayed: a graph for a few numbers of rows and reaches of context. A step takes the next
// larger one; rows that are too many compute nothing that anyone reads: they see no keys, and write K and V nowhere.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "executor.h"

namespace millrace::cuda {

class StepRecordings {
 public:
  // Number of recordings there are. Those of another cache are forgotten.
  int32_t record(const std::shared_ptr<const ProgramShape>& program, const std::shared_ptr<const CacheShape>& cache, int32_t numTokens, int32_t maxContext,
                 const ExecutionContext& context);
  // False, and nothing done, for steps that no recording serves.
  bool replay(const StepEntry& entry, PinnedBuffer& host, const ExecutionContext& context) const;

 private:
  struct Recording {
    std::unique_ptr<BatchUpload> upload;
    std::unique_ptr<Graph> graph;
  };
  using Key = std::pair<int32_t, int32_t>;  // rows, splits

  std::weak_ptr<const CacheShape> cache_;
  std::map<Key, Recording> recordings_;
};

// The one entry of a step by a recording of its program; false where there is none.
bool replayStep(const std::vector<StepEntry>& entries, std::vector<PinnedBuffer>& hosts, const ExecutionContext& context);

}  // namespace millrace::cuda
