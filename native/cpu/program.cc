#include "program.h"

#include <algorithm>
#include <string>
#include <utility>

#include "../common/error.h"
#include "check_plan.h"

namespace millrace::cpu {

Program::Program(Plan plan, std::vector<std::shared_ptr<Weight>> weights, const KernelTable& kernels, int32_t maxTokens, int32_t maxLogitRows,
                 int numThreads)
    : ProgramShape(std::move(plan), maxTokens, maxLogitRows), weights_(std::move(weights)), kernels_(kernels) {
  checkWeights(weights_);
  checkPlan(plan_);
  checkSupport();
  arena_ = Memory(static_cast<size_t>(millrace::arenaBytes(plan_, maxTokens, maxLogitRows)), "activations");
  tokenIds_ = Memory(static_cast<size_t>(maxTokens) * sizeof(int32_t), "token ids");
  allocateScratch(numThreads);
  orderLinears();
}

void Program::orderLinears() {
  nextLinear_.assign(plan_.nodes.size(), nullptr);
  const PackedMatrix* next = nullptr;
  for (int round = 0; round < 2; round++) {  // what comes after the last linear is only known once the first was met
    for (size_t i = plan_.nodes.size(); i-- > 0;) {
      nextLinear_[i] = next;
      const PlanNode& node = plan_.nodes[i];
      if (node.op == Op::headLinear || node.op == Op::expertLinear) next = nullptr;
      else if (node.op == Op::linear && weight(node.weights[0])->hasMatrix()) next = &weight(node.weights[0])->matrix();
    }
  }
}

void Program::checkSupport() const {
  std::string missing;
  const auto lacks = [&](const PlanNode& node, const std::string& what) {
    missing += (missing.empty() ? "" : ", ") + std::to_string(&node - plan_.nodes.data()) + ":" + what;
  };
  for (const PlanNode& node : plan_.nodes) {
    if (node.op == Op::linear || node.op == Op::headLinear) {
      const WeightFormat format = static_cast<WeightFormat>(plan_.weights[node.weights[0]].format);
      if (!kernels_.linearSupports(format, static_cast<Activation>(node.intAttr(node.op == Op::linear ? 0 : 1)))) lacks(node, "linear of this format and activation");
    }
    const bool hasHeads = node.op == Op::rope || node.op == Op::ropeKvWrite || node.op == Op::attention;
    if (hasHeads && node.intAttr(node.op == Op::attention ? 3 : 0) > kMaxHeadDim) lacks(node, "heads wider than 1024");
    if (node.op == Op::latentAttention && plan_.groups[static_cast<size_t>(node.intAttr(0))].headDim > kMaxHeadDim) lacks(node, "latent rows wider than 1024");
    const bool collective = node.op >= Op::allReduce && node.op <= Op::recv;
    if (collective && plan_.worldSize != 1) lacks(node, std::string(opName(node.op)) + " between ranks");
  }
  if (!missing.empty()) throw Error("BACKEND_OP_UNSUPPORTED", missing);
}

void Program::allocateScratch(int numThreads) {
  size_t linear = 0, attention = 0, tiles = 0;
  for (const PlanNode& node : plan_.nodes) {
    if (node.op == Op::linear) {
      const int32_t rows = plan_.values[static_cast<size_t>(node.inputs[0])].perLogit ? maxLogitRows_ : maxTokens_;
      linear = std::max(linear, kernels_.linearScratchBytes(rows, plan_.weights[node.weights[0]].columns));
    } else if (node.op == Op::headLinear) {
      linear = std::max(linear, kernels_.linearScratchBytes(maxTokens_, plan_.values[static_cast<size_t>(node.inputs[0])].width));
    } else if (node.op == Op::latentAttention) {
      const int32_t rowWidth = plan_.groups[static_cast<size_t>(node.intAttr(0))].headDim;
      attention = std::max(attention, kernels_.attentionScratchBytes(maxTokens_, node.intAttr(2), rowWidth, numThreads));
    } else if (node.op == Op::attention) {
      attention = std::max(attention, kernels_.attentionScratchBytes(maxTokens_, node.intAttr(2), node.intAttr(3), numThreads));
    } else if (node.op == Op::expertLinear) {
      const int32_t rows = plan_.values[static_cast<size_t>(node.inputs[0])].perLogit ? maxLogitRows_ : maxTokens_;
      const int32_t slots = plan_.values[static_cast<size_t>(node.inputs[1])].width;
      require(int64_t{rows} * slots <= INT32_MAX, "CONFIG_INVALID", "A step has too many pairs of tokens and experts.");
      linear = std::max(linear, kernels_.expertScratchBytes(rows, slots, plan_.weights[node.weights[0]].columns, node.intAttr(1)));
      const Weight* stored = weight(node.weights[0]);
      if (stored != nullptr && stored->stored() != nullptr)
        tiles = std::max(tiles, kernels_.expertTileBytes(static_cast<WeightFormat>(stored->shape().format), stored->shape().columns) * static_cast<size_t>(numThreads));
    }
  }
  linearScratch_ = Memory(linear, "rounded activations");
  attentionScratch_ = Memory(attention, "attention");
  expertTileScratch_ = Memory(tiles, "packed tiles of experts");
}

Rows Program::rows(int32_t id) const {
  const PlanValue& value = plan_.values[static_cast<size_t>(id)];
  const PlanValue& owner = plan_.values[static_cast<size_t>(plan_.owner(id))];
  const int64_t offset = value.viewOf < 0 ? 0 : value.viewOffset;
  return Rows{reinterpret_cast<float*>(arena_.data() + owner.arenaOffset) + offset, owner.width};
}

ConstRows Program::constRows(int32_t id) const {
  const Rows r = rows(id);
  return ConstRows{r.data, r.stride};
}

std::vector<std::string> Program::kernelNames() const {
  std::vector<std::string> names;
  for (const PlanNode& node : plan_.nodes) {
    const bool isLinear = node.op == Op::linear || node.op == Op::headLinear || node.op == Op::expertLinear;
    if (!isLinear) {
      names.push_back(std::string(opName(node.op)) + "_" + kernels_.isa);
      continue;
    }
    const Activation activation = static_cast<Activation>(node.intAttr(node.op == Op::headLinear ? 1 : 0));
    const bool isMapped = node.op == Op::expertLinear && weight(node.weights[0])->stored() != nullptr;
    const char* kind = node.op == Op::linear ? "" : node.op == Op::headLinear ? "head_" : isMapped ? "expert_mapped_" : "expert_";
    names.push_back(std::string(kind) + kernels_.linearName(static_cast<WeightFormat>(plan_.weights[node.weights[0]].format), activation));
  }
  return names;
}

}  // namespace millrace::cpu
