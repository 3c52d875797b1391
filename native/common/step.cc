#include "step.h"

#include <algorithm>

#include "contract.h"
#include "error.h"

namespace millrace {
namespace {

constexpr int32_t kMaxRows = 1 << 24;

}  // namespace

ProgramShape::ProgramShape(Plan plan, int32_t maxTokens, int32_t maxLogitRows) : plan_(std::move(plan)), maxTokens_(maxTokens), maxLogitRows_(maxLogitRows), profile_(new Profile(plan_.nodes.size())) {
  require(maxTokens > 0 && maxTokens <= kMaxRows && maxLogitRows > 0 && maxLogitRows <= kMaxRows, "CONFIG_INVALID",
          "maxTokens and maxLogitRows must be from 1 to 16777216.");
  for (const PlanNode& node : plan_.nodes) {
    if (node.op != Op::embedding) continue;
    require(!node.weights.empty() && node.weights[0] >= 0 && static_cast<size_t>(node.weights[0]) < plan_.weights.size(), "PLAN_INVALID", "An embedding has no table.");
    const int32_t rows = plan_.weights[static_cast<size_t>(node.weights[0])].rows;
    vocabSize_ = vocabSize_ == 0 ? rows : std::min(vocabSize_, rows);
  }
}

int32_t ProgramShape::output(int32_t index) const {
  require(index >= 0 && static_cast<size_t>(index) < plan_.outputs.size(), "BACKEND_STEP_FAILED", "The program has no such output.");
  return plan_.outputs[static_cast<size_t>(index)];
}

int32_t ProgramShape::logitsOutput(int32_t index, int32_t numRows) const {
  const int32_t id = output(index);
  const PlanValue& value = plan_.values[static_cast<size_t>(id)];
  require(value.perLogit && !value.isIds && numRows <= maxLogitRows_, "BACKEND_STEP_FAILED", "The output to sample is not one of logits.");
  return id;
}

void checkMasks(const Span<uint32_t>* masks, int32_t numRows, int32_t vocabSize) {
  const int64_t words = (int64_t{vocabSize} + 31) / 32 * numRows;
  require(masks == nullptr || masks->length >= words, "BACKEND_STEP_FAILED", "The masks of allowed tokens are too short.");
}

CacheShape::CacheShape(std::vector<CacheGroupSpec> groups, int32_t blockSize) : groups_(std::move(groups)), blockSize_(blockSize) {
  require(blockSize > 0 && kAttentionSplit % blockSize == 0, "CONFIG_INVALID", "The block size must divide 256.");
  for (const CacheGroupSpec& group : groups_) {
    const bool sane = group.numLayers > 0 && group.numLayers <= 65536 && group.numKvHeads > 0 && group.numKvHeads <= 65536 && group.headDim > 0 &&
                      group.headDim <= kMaxHeadDim && group.numBlocks > 0 && group.numBlocks <= INT32_MAX / blockSize && (!group.isLatent || group.numKvHeads == 1);
    require(sane, "CONFIG_INVALID", "A cache group has sizes that make no cache.");
  }
}

}  // namespace millrace
