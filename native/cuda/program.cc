#include "program.h"

#include <algorithm>
#include <utility>

#include "../common/error.h"
#include "../cpu/check_plan.h"

namespace millrace::cuda {

Program::Program(Plan plan, std::vector<std::shared_ptr<Weight>> weights, int32_t maxTokens, int32_t maxLogitRows, const Stream& stream, bool describes)
    : ProgramShape(std::move(plan), maxTokens, maxLogitRows), weights_(std::move(weights)) {
  checkWeights(weights_);
  cpu::checkPlan(plan_);
  checkSupport();
  arenaBytes_ = static_cast<size_t>(millrace::arenaBytes(plan_, maxTokens, maxLogitRows));
  for (const PlanNode& node : plan_.nodes) {
    if (node.op != Op::linear) continue;
    const int32_t rows = plan_.values[static_cast<size_t>(node.inputs[0])].perLogit ? maxLogitRows_ : maxTokens_;
    scratchBytes_ = std::max(scratchBytes_, linearScratchBytes(rows, plan_.weights[static_cast<size_t>(node.weights[0])].columns));
  }
  if (describes) return;
  arena_ = Buffer(arenaBytes_, "activations");
  scratch_ = Buffer(scratchBytes_, "rounded activations");
  uploadConstants(stream);
}

void Program::checkSupport() const {
  std::string missing;
  const auto lacks = [&](const PlanNode& node, const std::string& what) {
    missing += (missing.empty() ? "" : ", ") + std::to_string(&node - plan_.nodes.data()) + ":" + what;
  };
  for (const PlanNode& node : plan_.nodes) {
    switch (node.op) {
      case Op::linear:
        if (!linearSupports(static_cast<WeightFormat>(plan_.weights[static_cast<size_t>(node.weights[0])].format), static_cast<Activation>(node.intAttr(0))))
          lacks(node, "linear of this format and activation");
        break;
      case Op::embedding:
      case Op::positionEmbedding:
        if (plan_.weights[static_cast<size_t>(node.weights[0])].format > static_cast<int32_t>(WeightFormat::bf16)) lacks(node, "tables of this format");
        break;
      case Op::rope:
      case Op::ropeKvWrite:
        if (node.intAttr(0) > kMaxHeadDim) lacks(node, "heads wider than 1024");
        break;
      case Op::attention:
        if (node.intAttr(3) > kMaxHeadDim) lacks(node, "heads wider than 1024");
        if (node.intAttr(7) != 0) lacks(node, "queries and weights rounded to bf16");
        break;
      case Op::rmsNorm:
      case Op::addRmsNorm:
      case Op::layerNorm:
      case Op::add:
      case Op::scale:
      case Op::softCap:
      case Op::activation:
      case Op::gatedActivation:
      case Op::clampedSwiglu:
      case Op::gatherColumns:
      case Op::kvWrite:
      case Op::selectRows: break;
      case Op::allReduce:
      case Op::allGather:
      case Op::allToAll:
      case Op::send:
      case Op::recv:
        if (plan_.worldSize != 1) lacks(node, std::string(opName(node.op)) + " between ranks");
        break;
      default: lacks(node, opName(node.op));
    }
  }
  if (!missing.empty()) throw Error("BACKEND_OP_UNSUPPORTED", missing);
}

void Program::uploadConstants(const Stream& stream) {
  std::vector<float> all;
  for (const std::vector<float>& constant : plan_.constants) {
    constantStarts_.push_back(static_cast<int64_t>(all.size()));
    all.insert(all.end(), constant.begin(), constant.end());
  }
  if (all.empty()) return;
  constants_ = Buffer(all.size() * sizeof(float), "constants of the plan");
  stream.upload(constants_.data(), all.data(), all.size() * sizeof(float));
  stream.synchronize();
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

void Program::reserveSampler(Sampler& sampler) const {
  for (const int32_t id : plan_.outputs)
    if (plan_.values[static_cast<size_t>(id)].perLogit) sampler.reserve(plan_.values[static_cast<size_t>(id)].width, maxLogitRows_);
}

std::vector<std::string> Program::kernelNames() const {
  std::vector<std::string> names;
  for (const PlanNode& node : plan_.nodes) {
    if (node.op != Op::linear) names.push_back(std::string(opName(node.op)) + "_cuda");
    else names.push_back(linearName(static_cast<WeightFormat>(plan_.weights[static_cast<size_t>(node.weights[0])].format), static_cast<Activation>(node.intAttr(0))));
  }
  return names;
}

}  // namespace millrace::cuda
