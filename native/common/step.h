// A step as every device sees it: src/backends/backend.ts says what each field means. Pointers are the caller's, valid until the step is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.h"
#include "plan.h"
#include "profile.h"

namespace millrace {

// A typed array: where it is and how many elements it has.
template <class T>
struct Span {
  const T* data = nullptr;
  int64_t length = 0;
};

struct ForwardBatch {
  int32_t numTokens = 0, numRows = 0, numLogitRows = 0, maxBlocks = 0, numCopies = 0;
  Span<int32_t> tokenIds, positions, rowStart, cacheIndex, visibleEnd, blockTables, slotMapping, logitTokens, copies;
  Span<int32_t> ancestorStart, ancestorSlots;  // null without drafts
  Span<int32_t> kept;                          // null where nothing is compressed
};

struct CacheGroupSpec {
  int32_t numLayers, numKvHeads, headDim, numBlocks;
  bool isLatent;  // one row of headDim a token in place of K and V
};

// What is known of a program on any device: devices derive theirs from it.
class ProgramShape {
 public:
  const Plan& plan() const { return plan_; }
  int32_t maxTokens() const { return maxTokens_; }
  int32_t maxLogitRows() const { return maxLogitRows_; }
  // Ids below this are in every embedding table that reads the input; 0 when none does.
  int32_t vocabSize() const { return vocabSize_; }
  // The value of an output. Throws BACKEND_STEP_FAILED when there is none.
  int32_t output(int32_t index) const;
  // Also when it is not `numRows` rows of logits.
  int32_t logitsOutput(int32_t index, int32_t numRows) const;
  // Of a device that counts.
  Profile& profile() const { return *profile_; }

 protected:
  // Throws CONFIG_INVALID.
  ProgramShape(Plan plan, int32_t maxTokens, int32_t maxLogitRows);
  ~ProgramShape() = default;

  // Those that a device holds must be those of the plan. Throws PLAN_INVALID.
  template <class Weight>
  void checkWeights(const std::vector<std::shared_ptr<Weight>>& weights) const {
    require(weights.size() == plan_.weights.size(), "PLAN_INVALID", "The number of weights is not that of the plan.");
    for (size_t i = 0; i < weights.size(); i++) {
      require(weights[i] != nullptr, "PLAN_INVALID", "A weight is missing.");
      const PlanWeight& wanted = plan_.weights[i];
      const PlanWeight& given = weights[i]->shape();
      const bool same = wanted.rank == given.rank && wanted.rows == given.rows && wanted.columns == given.columns && wanted.format == given.format;
      require(same, "PLAN_INVALID", "A weight has another shape or format than the plan says.");
    }
  }

  const Plan plan_;
  const int32_t maxTokens_, maxLogitRows_;

 private:
  int32_t vocabSize_ = 0;
  std::unique_ptr<Profile> profile_;
};

// What a plan would run as.
struct ProgramDescription {
  size_t arenaBytes;
  std::vector<std::string> kernels;  // of each node
};

// What is known of a cache on any device.
class CacheShape {
 public:
  const std::vector<CacheGroupSpec>& groups() const { return groups_; }
  int32_t blockSize() const { return blockSize_; }

 protected:
  // Throws CONFIG_INVALID for sizes that make no cache.
  CacheShape(std::vector<CacheGroupSpec> groups, int32_t blockSize);
  ~CacheShape() = default;

  const CacheGroupSpec& group(int32_t i) const { return groups_[static_cast<size_t>(i)]; }

 private:
  const std::vector<CacheGroupSpec> groups_;
  const int32_t blockSize_;
};

struct StepEntry {
  std::shared_ptr<const ProgramShape> program;
  std::shared_ptr<const CacheShape> cache;  // or null
  ForwardBatch batch;
  // Where embeddings come from: memory of the host, or an output of an earlier entry.
  Span<float> hostEmbeddings;
  int32_t sourceEntry = -1, sourceOutput = -1;
};

// Checks every index of an entry that a kernel will follow, before anything runs. `numLastTokens`: rows that the previous step sampled.
// Throws BACKEND_STEP_FAILED.
void checkEntry(const std::vector<StepEntry>& entries, size_t index, size_t numLastTokens);

// Masks must cover [numRows, ceil(vocabSize / 32)]; null stands for none. Throws BACKEND_STEP_FAILED.
void checkMasks(const Span<uint32_t>* masks, int32_t numRows, int32_t vocabSize);

// A value copied out whole, [rows, width].
struct Output {
  std::unique_ptr<float[]> data;
  size_t length = 0;
};

struct ForwardResult {
  std::vector<Output> outputs;
  double forwardMs = 0;
};

}  // namespace millrace
