#include "program.h"

#include <algorithm>
#include <string>
#include <utility>

#include "../common/error.h"

namespace millrace::cpu {
namespace {

constexpr int32_t kWidestHead = 1024;  // elements of a head: kMaxHeadDim of kv_cache.h

// How many values, weights and constants a node of each op names.
struct Arity {
  size_t inputs, outputs, minWeights, maxWeights, constants;
};

Arity arityOf(Op op) {
  switch (op) {
    case Op::embedding: return {1, 1, 1, 1, 0};
    case Op::linear: return {1, 1, 1, 2, 0};
    case Op::rmsNorm: return {1, 1, 1, 1, 0};
    case Op::addRmsNorm: return {2, 2, 1, 1, 0};
    case Op::add: return {2, 1, 0, 0, 0};
    case Op::gatedActivation: return {2, 1, 0, 0, 0};
    case Op::rope: return {1, 1, 0, 0, 1};
    case Op::kvWrite: return {2, 0, 0, 0, 0};
    case Op::ropeKvWrite: return {3, 1, 0, 0, 1};
    case Op::attention: return {1, 1, 0, 1, 0};
    default: return {1, 1, 0, 0, 0};  // scale, soft-cap, select-rows, collectives
  }
}

// Speaks of a node by op and place; the TypeScript side knows its name.
class NodeCheck {
 public:
  NodeCheck(const Plan& plan, const PlanNode& node) : plan_(plan), node_(node) {}

  void that(bool holds, const char* rule) const {
    if (holds) return;
    const std::string place = std::to_string(&node_ - plan_.nodes.data());
    throw Error("PLAN_INVALID", "Node " + place + " (" + opName(node_.op) + ") of the encoded plan breaks a rule: " + rule + ".");
  }
  void group(int32_t group, int32_t layer, int32_t kvWidth) const {
    that(group >= 0 && static_cast<size_t>(group) < plan_.groups.size(), "its cache group exists");
    const PlanGroup& cache = plan_.groups[static_cast<size_t>(group)];
    that(layer >= 0 && layer < cache.numLayers, "its layer is one of the cache group");
    that(kvWidth < 0 || kvWidth == cache.numKvHeads * cache.headDim, "K and V have the width of the cache group");
  }

 private:
  const Plan& plan_;
  const PlanNode& node_;
};

}  // namespace

Program::Program(Plan plan, std::vector<std::shared_ptr<Weight>> weights, const KernelTable& kernels, int32_t maxTokens, int32_t maxLogitRows,
                 int numThreads)
    : plan_(std::move(plan)), weights_(std::move(weights)), kernels_(kernels), maxTokens_(maxTokens), maxLogitRows_(maxLogitRows) {
  require(maxTokens > 0 && maxTokens <= (1 << 24) && maxLogitRows > 0 && maxLogitRows <= (1 << 24), "CONFIG_INVALID",
          "maxTokens and maxLogitRows must be from 1 to 16777216.");
  checkWeights();
  for (const PlanNode& node : plan_.nodes) checkNode(node);
  for (const int32_t id : plan_.outputs) require(plan_.values[plan_.owner(id)].arenaOffset >= 0, "PLAN_INVALID", "An output of the encoded plan has no place.");
  require(plan_.values[plan_.owner(plan_.inputValue)].arenaOffset >= 0, "PLAN_INVALID", "The input of the encoded plan has no place.");
  checkSupport();
  arena_ = Memory(static_cast<size_t>(millrace::arenaBytes(plan_, maxTokens, maxLogitRows)), "activations");
  tokenIds_ = Memory(static_cast<size_t>(maxTokens) * sizeof(int32_t), "token ids");
  allocateScratch(numThreads);
}

void Program::checkWeights() const {
  require(weights_.size() == plan_.weights.size(), "PLAN_INVALID", "The number of weights is not that of the plan.");
  for (size_t i = 0; i < weights_.size(); i++) {
    require(weights_[i] != nullptr, "PLAN_INVALID", "A weight is missing.");
    const PlanWeight& wanted = plan_.weights[i];
    const PlanWeight& given = weights_[i]->shape();
    const bool same = wanted.rank == given.rank && wanted.rows == given.rows && wanted.columns == given.columns && wanted.format == given.format;
    require(same, "PLAN_INVALID", "A weight has another shape or format than the plan says.");
  }
}

void Program::checkNode(const PlanNode& node) const {
  const NodeCheck check(plan_, node);
  const Arity arity = arityOf(node.op);
  check.that(node.inputs.size() == arity.inputs && node.outputs.size() == arity.outputs, "it has the inputs and outputs of its op");
  check.that(node.weights.size() >= arity.minWeights && node.weights.size() <= arity.maxWeights, "it has the weights of its op");
  check.that(node.constants.size() == arity.constants, "it has the constants of its op");
  for (const int32_t id : node.inputs) check.that(plan_.values[plan_.owner(id)].arenaOffset >= 0, "its inputs have a place");
  for (const int32_t id : node.outputs) check.that(plan_.values[plan_.owner(id)].arenaOffset >= 0, "its outputs have a place");
  const auto value = [&](const std::vector<int32_t>& ids, size_t i) -> const PlanValue& { return plan_.values[static_cast<size_t>(ids[i])]; };
  const auto isVector = [&](size_t i, int64_t length) {
    return i < node.weights.size() && node.weights[i] >= 0 && plan_.weights[node.weights[i]].rank == 1 && plan_.weights[node.weights[i]].rows == length;
  };
  const auto isMatrix = [&](int64_t rows, int64_t columns) {
    const PlanWeight* w = node.weights[0] < 0 ? nullptr : &plan_.weights[node.weights[0]];
    return w != nullptr && w->rank == 2 && (rows < 0 || w->rows == rows) && w->columns == columns;
  };
  // Ops that work row by row on values of one shape; the others say their rule below.
  const bool reshapes = node.op == Op::embedding || node.op == Op::linear || node.op == Op::kvWrite || node.op == Op::ropeKvWrite || node.op == Op::selectRows;
  const PlanValue& x = value(node.inputs, 0);
  for (size_t i = 0; i < node.inputs.size(); i++) check.that(value(node.inputs, i).isIds == (node.op == Op::embedding), "its inputs have the right dtype");
  for (size_t i = 0; i < node.outputs.size(); i++) {
    check.that(!value(node.outputs, i).isIds, "its outputs are f32");
    check.that(reshapes || value(node.outputs, i).width == x.width, "its outputs are as wide as its inputs");
    check.that(node.op == Op::selectRows || value(node.outputs, i).perLogit == x.perLogit, "its outputs have the axis of its inputs");
  }
  for (size_t i = 1; i < node.inputs.size(); i++) {
    check.that(value(node.inputs, i).perLogit == x.perLogit, "its inputs have one axis");
    check.that(node.op == Op::ropeKvWrite || value(node.inputs, i).width == x.width, "its inputs are of one width");
  }
  const auto rotary = [&] {
    const int32_t headDim = node.intAttr(0), rotaryDim = node.intAttr(1);
    check.that(headDim > 0 && headDim <= kMaxHeadDim && x.width % headDim == 0 && rotaryDim > 0 && rotaryDim <= headDim && rotaryDim % 2 == 0, "its head sizes fit");
    check.that(plan_.constants[static_cast<size_t>(node.constants[0])].size() == static_cast<size_t>(rotaryDim) / 2, "its frequencies fit");
    check.that(!x.perLogit, "it works on tokens");
  };
  switch (node.op) {
    case Op::embedding:
      check.that(x.width == 1 && node.inputs[0] == plan_.inputValue, "its ids are the input of the plan");
      check.that(isMatrix(-1, value(node.outputs, 0).width), "the table is as wide as the output");
      break;
    case Op::linear:
      check.that(isMatrix(value(node.outputs, 0).width, x.width), "the matrix is [outputs, inputs]");
      check.that(node.weights.size() < 2 || node.weights[1] < 0 || isVector(1, value(node.outputs, 0).width), "the bias is as wide as the output");
      check.that(node.intAttr(0) >= 0 && node.intAttr(0) <= 3, "the activation is known");
      check.that(node.intAttr(0) != 2 || x.width % 32 == 0, "int8-group32 has whole groups");
      break;
    case Op::rmsNorm:
    case Op::addRmsNorm:
      check.that(node.intAttr(2) > 0 && x.width % node.intAttr(2) == 0 && isVector(0, node.intAttr(2)), "the weight is groupWidth wide");
      break;
    case Op::gatedActivation: check.that(node.intAttr(0) >= 0 && node.intAttr(0) <= 2, "the function is known"); break;
    case Op::rope: rotary(); break;
    case Op::kvWrite:
      check.that(!x.perLogit, "it works on tokens");
      check.group(node.intAttr(0), node.intAttr(1), x.width);
      break;
    case Op::ropeKvWrite:
      rotary();
      check.that(value(node.inputs, 1).width == value(node.inputs, 2).width && value(node.outputs, 0).width == x.width, "k is as wide as v, the output as q");
      check.group(node.intAttr(4), node.intAttr(5), value(node.inputs, 1).width);
      check.that(plan_.groups[static_cast<size_t>(node.intAttr(4))].headDim == node.intAttr(0), "the head size is that of the cache group");
      break;
    case Op::attention: {
      check.that(!x.perLogit, "it works on tokens");
      check.group(node.intAttr(0), node.intAttr(1), -1);
      const PlanGroup& group = plan_.groups[static_cast<size_t>(node.intAttr(0))];
      const int32_t numHeads = node.intAttr(2);
      check.that(numHeads > 0 && numHeads % group.numKvHeads == 0 && node.intAttr(3) == group.headDim && numHeads * group.headDim == x.width,
                 "its heads fit the cache group");
      check.that(node.intAttr(6) >= 0, "its window is not negative");
      check.that(node.weights.empty() || node.weights[0] < 0 || isVector(0, numHeads), "it has a sink a head");
      break;
    }
    case Op::selectRows: check.that(!x.perLogit && value(node.outputs, 0).perLogit && value(node.outputs, 0).width == x.width, "it selects rows"); break;
    default: break;
  }
}

void Program::checkSupport() const {
  std::string missing;
  const auto lacks = [&](const PlanNode& node, const std::string& what) {
    missing += (missing.empty() ? "" : ", ") + std::to_string(&node - plan_.nodes.data()) + ":" + what;
  };
  for (const PlanNode& node : plan_.nodes) {
    if (node.op == Op::linear) {
      const WeightFormat format = static_cast<WeightFormat>(plan_.weights[node.weights[0]].format);
      if (!kernels_.linearSupports(format, static_cast<Activation>(node.intAttr(0)))) lacks(node, "linear of this format and activation");
    }
    const bool hasHeads = node.op == Op::rope || node.op == Op::ropeKvWrite || node.op == Op::attention;
    if (hasHeads && node.intAttr(node.op == Op::attention ? 3 : 0) > kWidestHead) lacks(node, "heads wider than 1024");
    const bool collective = node.op >= Op::allReduce && node.op <= Op::recv;
    if (collective && plan_.worldSize != 1) lacks(node, std::string(opName(node.op)) + " between ranks");
  }
  if (!missing.empty()) throw Error("BACKEND_OP_UNSUPPORTED", missing);
}

void Program::allocateScratch(int numThreads) {
  size_t linear = 0, attention = 0;
  for (const PlanNode& node : plan_.nodes) {
    if (node.op == Op::linear) {
      const int32_t rows = plan_.values[static_cast<size_t>(node.inputs[0])].perLogit ? maxLogitRows_ : maxTokens_;
      linear = std::max(linear, kernels_.linearScratchBytes(rows, plan_.weights[node.weights[0]].columns));
    } else if (node.op == Op::attention) {
      attention = std::max(attention, kernels_.attentionScratchBytes(maxTokens_, node.intAttr(2), node.intAttr(3), numThreads));
    } else if (node.op == Op::embedding) {
      const int32_t rows = plan_.weights[node.weights[0]].rows;
      vocabSize_ = vocabSize_ == 0 ? rows : std::min(vocabSize_, rows);
    }
  }
  linearScratch_ = Memory(linear, "rounded activations");
  attentionScratch_ = Memory(attention, "attention");
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
    if (node.op == Op::linear) {
      names.push_back(kernels_.linearName(static_cast<WeightFormat>(plan_.weights[node.weights[0]].format), static_cast<Activation>(node.intAttr(0))));
    } else {
      names.push_back(std::string(opName(node.op)) + "_" + kernels_.isa);
    }
  }
  return names;
}

}  // namespace millrace::cpu
