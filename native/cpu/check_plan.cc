#include "check_plan.h"

#include <string>

#include "../common/error.h"

namespace millrace::cpu {
namespace {

// How many values, weights and constants a node of each op names.
struct Arity {
  size_t inputs, outputs, minWeights, maxWeights, constants, optionalConstants = 0;
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
    case Op::kvRotate: return {1, 0, 0, 0, 1};
    case Op::kvCompress: return {1, 0, 0, 0, 0};
    case Op::ropeKvWrite: return {3, 1, 0, 0, 1};
    case Op::headLinear: return {1, 1, 1, 1, 0};
    case Op::latentWrite: return {2, 0, 0, 0, 0};
    case Op::latentAttention: return {2, 1, 0, 0, 0};
    case Op::attention: return {1, 1, 0, 1, 0, 1};
    case Op::layerNorm: return {1, 1, 1, 2, 0};
    case Op::positionEmbedding: return {1, 1, 1, 1, 0};
    case Op::gatherColumns: return {1, 1, 0, 0, 1};
    case Op::moeRoute: return {1, 2, 0, 1, 0};
    case Op::expertLinear: return {2, 1, 1, 2, 0};
    case Op::expertCombine:
    case Op::clampedSwiglu: return {2, 1, 0, 0, 0};
    default: return {1, 1, 0, 0, 0};  // scale, soft-cap, activation, select-rows, collectives
  }
}

// One node. Speaks of it by op and place; the TypeScript side knows its name.
class NodeCheck {
 public:
  NodeCheck(const Plan& plan, const PlanNode& node) : plan_(plan), node_(node) {}

  void run() const {
    operands();
    shapes();
    rules();
  }

 private:
  void that(bool holds, const char* rule) const {
    if (holds) return;
    const std::string place = std::to_string(&node_ - plan_.nodes.data());
    throw Error("PLAN_INVALID", "Node " + place + " (" + opName(node_.op) + ") of the encoded plan breaks a rule: " + rule + ".");
  }

  const PlanValue& input(size_t i) const { return plan_.values[static_cast<size_t>(node_.inputs[i])]; }
  const PlanValue& output(size_t i) const { return plan_.values[static_cast<size_t>(node_.outputs[i])]; }
  bool hasPlace(int32_t value) const { return plan_.values[static_cast<size_t>(plan_.owner(value))].arenaOffset >= 0; }

  const PlanWeight* weight(size_t i) const {
    if (i >= node_.weights.size() || node_.weights[i] < 0) return nullptr;
    return &plan_.weights[static_cast<size_t>(node_.weights[i])];
  }
  bool isVector(size_t i, int64_t length) const {
    const PlanWeight* w = weight(i);
    return w != nullptr && w->rank == 1 && w->rows == length;
  }
  bool isMatrix(int64_t rows, int64_t columns) const {
    const PlanWeight* w = weight(0);
    return w != nullptr && w->rank == 2 && (rows < 0 || w->rows == rows) && w->columns == columns;
  }

  void operands() const {
    const Arity arity = arityOf(node_.op);
    const bool severalOutputs = node_.op == Op::expertLinear && node_.outputs.size() >= 1 && node_.outputs.size() <= kMaxExpertOutputs;
    that(node_.inputs.size() == arity.inputs && (severalOutputs || node_.outputs.size() == arity.outputs), "it has the inputs and outputs of its op");
    that(node_.weights.size() >= arity.minWeights && node_.weights.size() <= arity.maxWeights, "it has the weights of its op");
    that(node_.constants.size() >= arity.constants && node_.constants.size() <= arity.constants + arity.optionalConstants, "it has the constants of its op");
    for (const int32_t id : node_.inputs) that(hasPlace(id), "its inputs have a place");
    for (const int32_t id : node_.outputs) that(hasPlace(id), "its outputs have a place");
  }

  // What most ops have in common: rows of one axis and width. The others say their own rule in rules().
  void shapes() const {
    const Op op = node_.op;
    if (op == Op::moeRoute || op == Op::expertLinear || op == Op::expertCombine) return oneAxis();
    const bool reshapes = op == Op::embedding || op == Op::linear || op == Op::selectRows || op == Op::ropeKvWrite || op == Op::headLinear;
    const bool ownWidths = op == Op::ropeKvWrite || op == Op::latentWrite || op == Op::latentAttention;
    const PlanValue& x = input(0);
    for (size_t i = 0; i < node_.inputs.size(); i++) {
      that(input(i).isIds == (op == Op::embedding || op == Op::kvRotate), "its inputs have the right dtype");
      that(input(i).perLogit == x.perLogit, "its inputs have one axis");
      that(ownWidths || input(i).width == x.width, "its inputs are of one width");
    }
    for (size_t i = 0; i < node_.outputs.size(); i++) {
      that(!output(i).isIds, "its outputs are f32");
      that(reshapes || output(i).width == x.width, "its outputs are as wide as its inputs");
      that(op == Op::selectRows || output(i).perLogit == x.perLogit, "its outputs have the axis of its inputs");
    }
  }

  void oneAxis() const {
    for (size_t i = 0; i < node_.inputs.size(); i++) that(input(i).perLogit == input(0).perLogit, "its inputs have one axis");
    for (size_t i = 0; i < node_.outputs.size(); i++) that(output(i).perLogit == input(0).perLogit, "its outputs have the axis of its inputs");
  }

  void rules() const {
    const PlanValue& x = input(0);
    switch (node_.op) {
      case Op::embedding:
        that(x.width == 1 && node_.inputs[0] == plan_.inputValue, "its ids are the input of the plan");
        that(isMatrix(-1, output(0).width), "the table is as wide as the output");
        break;
      case Op::linear:
        that(isMatrix(output(0).width, x.width), "the matrix is [outputs, inputs]");
        that(weight(1) == nullptr || isVector(1, output(0).width), "the bias is as wide as the output");
        that(node_.intAttr(0) >= 0 && node_.intAttr(0) <= 3, "the activation is known");
        that(node_.intAttr(0) != 2 || x.width % 32 == 0, "int8-group32 has whole groups");
        break;
      case Op::rmsNorm:
      case Op::addRmsNorm:
        that(node_.intAttr(2) > 0 && x.width % node_.intAttr(2) == 0 && isVector(0, node_.intAttr(2)), "the weight is groupWidth wide");
        break;
      case Op::gatedActivation: that(node_.intAttr(0) >= 0 && node_.intAttr(0) <= 2, "the function is known"); break;
      case Op::layerNorm:
        that(isVector(0, x.width) && (weight(1) == nullptr || isVector(1, x.width)), "weight and bias are as wide as the input");
        break;
      case Op::activation: that(node_.intAttr(0) >= 0 && node_.intAttr(0) <= 3, "the function is known"); break;
      case Op::positionEmbedding:
        that(node_.intAttr(0) >= 0 && node_.intAttr(0) < plan_.numPositionAxes, "its axis is one of the positions");
        that(!x.perLogit && isMatrix(-1, x.width) && weight(0)->rows > 0, "the table is as wide as the input, which is per token");
        break;
      case Op::gatherColumns: {
        const std::vector<float>& order = plan_.constants[static_cast<size_t>(node_.constants[0])];
        that(order.size() == static_cast<size_t>(x.width), "its order is as wide as the input");
        for (const float at : order) that(at >= 0 && at < static_cast<float>(x.width), "its order names columns of the input");
        break;
      }
      case Op::moeRoute: moeRoute(); break;
      case Op::expertLinear: expertLinear(); break;
      case Op::expertCombine:
        that(!x.isIds && !input(1).isIds && !output(0).isIds && int64_t{input(1).width} * output(0).width == x.width, "its slots fit");
        break;
      case Op::rope: rotary(); break;
      case Op::kvWrite: cacheLayer(0, x.width); break;
      case Op::kvRotate: {
        wholeGroup();
        const int32_t rotaryDim = node_.intAttr(2);
        that(rotaryDim >= 0 && rotaryDim <= group(0).headDim && rotaryDim % 2 == 0, "its head sizes fit");
        that(plan_.constants[static_cast<size_t>(node_.constants[0])].size() == static_cast<size_t>(rotaryDim) / 2, "its frequencies fit");
        break;
      }
      case Op::kvCompress: {
        wholeGroup();
        const int64_t numHeads = node_.intAttr(2);
        that(numHeads > 0 && numHeads % group(0).numKvHeads == 0, "its heads share the KV heads evenly");
        that(node_.intAttr(3) == group(0).headDim && numHeads * group(0).headDim == x.width, "its heads fit the cache group");
        that(!group(0).isWindow, "its cache group keeps every token");
        break;
      }
      case Op::ropeKvWrite:
        rotary();
        that(input(1).width == input(2).width && output(0).width == x.width, "k is as wide as v, the output as q");
        cacheLayer(4, input(1).width);
        that(group(4).headDim == node_.intAttr(0), "the head size is that of the cache group");
        break;
      case Op::attention: attention(); break;
      case Op::headLinear: {
        const int32_t numHeads = node_.intAttr(0);
        that(numHeads > 0 && x.width % numHeads == 0 && output(0).width % numHeads == 0 && x.width / numHeads % 4 == 0, "its heads fit");
        that(isMatrix(output(0).width, x.width / numHeads), "the matrix has the outputs of all heads by the inputs of one");
        that(node_.intAttr(1) >= 0 && node_.intAttr(1) <= 3 && (node_.intAttr(1) != 2 || x.width / numHeads % 32 == 0), "the activation is known and fits");
        break;
      }
      case Op::latentWrite:
        latentLayer();
        that(int64_t{x.width} + input(1).width == group(0).headDim, "its parts are a row of the cache group");
        break;
      case Op::latentAttention: {
        latentLayer();
        const int64_t numHeads = node_.intAttr(2);
        that(numHeads > 0 && x.width % numHeads == 0 && int64_t{x.width} + input(1).width == numHeads * group(0).headDim, "its heads fit the cache group");
        break;
      }
      case Op::selectRows: that(!x.perLogit && output(0).perLogit && output(0).width == x.width, "it selects rows"); break;
      default: break;
    }
  }

  void moeRoute() const {
    const int64_t experts = input(0).width, slots = output(0).width, groups = node_.intAttr(2), kept = node_.intAttr(3);
    that(!input(0).isIds && output(0).isIds && !output(1).isIds && output(1).width == slots, "it makes ids and weights");
    that(experts <= 4096 && groups > 0 && experts % groups == 0 && kept > 0 && kept <= groups && slots <= experts / groups * kept, "its groups fit");
    that(weight(0) == nullptr || isVector(0, experts), "it has a bias an expert");
  }

  // The ids must be those of a router of as many experts: nothing else keeps them in range.
  void expertLinear() const {
    const PlanWeight* w = weight(0);
    const int64_t slots = input(1).width, experts = node_.intAttr(1);
    that(w != nullptr && w->rank == 3 && w->count == experts, "it has a matrix an expert");
    that(!input(0).isIds && (input(0).width == w->columns || input(0).width == slots * w->columns), "its input is as wide as its matrices, or a slot is");
    int64_t widths = 0;
    for (size_t i = 0; i < node_.outputs.size(); i++) {
      that(!output(i).isIds && output(i).width % slots == 0, "its outputs are whole slots");
      widths += output(i).width;
    }
    that(widths == slots * w->rows, "its outputs share the rows of its matrices");
    that(weight(1) == nullptr || isVector(1, experts * w->rows), "the bias is as long as all outputs");
    that(node_.intAttr(0) >= 0 && node_.intAttr(0) <= 3 && (node_.intAttr(0) != 2 || w->columns % 32 == 0), "the activation is known and fits");
    bool routed = false;
    for (const PlanNode& node : plan_.nodes)
      routed = routed || (node.op == Op::moeRoute && node.outputs[0] == node_.inputs[1] && plan_.values[static_cast<size_t>(node.inputs[0])].width == experts);
    that(routed, "its ids come from a router of as many experts");
  }

  void rotary() const {
    const int32_t headDim = node_.intAttr(0), rotaryDim = node_.intAttr(1);
    that(headDim > 0 && input(0).width % headDim == 0 && rotaryDim > 0 && rotaryDim <= headDim && rotaryDim % 2 == 0, "its head sizes fit");
    that(plan_.constants[static_cast<size_t>(node_.constants[0])].size() == static_cast<size_t>(rotaryDim) / 2, "its frequencies fit");
    that(!input(0).perLogit, "it works on tokens");
  }

  // The cache group that attribute `at` names; it exists once cacheLayer has passed.
  const PlanGroup& group(size_t at) const { return plan_.groups[static_cast<size_t>(node_.intAttr(at))]; }

  static int64_t kvWidthOf(const PlanGroup& group) { return int64_t{group.numKvHeads} * group.headDim; }

  // Attributes `at` and `at + 1` name a group and a layer of it; K and V are kvWidth wide.
  void cacheLayer(size_t at, int64_t kvWidth) const {
    that(!input(0).perLogit, "it works on tokens");
    that(node_.intAttr(at) >= 0 && static_cast<size_t>(node_.intAttr(at)) < plan_.groups.size(), "its cache group exists");
    that(node_.intAttr(at + 1) >= 0 && node_.intAttr(at + 1) < group(at).numLayers, "its layer is one of the cache group");
    that(!group(at).isLatent && kvWidth == kvWidthOf(group(at)), "K and V have the width of the cache group");
  }

  // A layer of a group of K and V, at all its width.
  void wholeGroup() const {
    that(node_.intAttr(0) >= 0 && static_cast<size_t>(node_.intAttr(0)) < plan_.groups.size(), "its cache group exists");
    cacheLayer(0, kvWidthOf(group(0)));
  }

  void latentLayer() const {
    that(!input(0).perLogit, "it works on tokens");
    that(node_.intAttr(0) >= 0 && static_cast<size_t>(node_.intAttr(0)) < plan_.groups.size(), "its cache group exists");
    that(group(0).isLatent && group(0).numKvHeads == 1, "its cache group is a latent one");
    that(node_.intAttr(1) >= 0 && node_.intAttr(1) < group(0).numLayers, "its layer is one of the cache group");
  }

  void attention() const {
    wholeGroup();
    const int64_t numHeads = node_.intAttr(2);
    that(numHeads > 0 && numHeads % group(0).numKvHeads == 0, "its heads share the KV heads evenly");
    that(node_.intAttr(3) == group(0).headDim && numHeads * group(0).headDim == input(0).width, "its heads fit the cache group");
    that(node_.intAttr(6) > -(1 << 30) && (node_.intAttr(6) >= 0 || !group(0).isWindow), "its window is one that its cache group keeps");
    that(node_.intAttr(7) == 0 || node_.intAttr(7) == 1, "its activation is one that attention has");
    that(weight(0) == nullptr || isVector(0, numHeads), "it has a sink a head");
    that(node_.constants.empty() || plan_.constants[static_cast<size_t>(node_.constants[0])].size() == static_cast<size_t>(numHeads), "it has a slope a head");
  }

  const Plan& plan_;
  const PlanNode& node_;
};

}  // namespace

void checkPlan(const Plan& plan) {
  const auto hasPlace = [&](int32_t id) { return plan.values[static_cast<size_t>(plan.owner(id))].arenaOffset >= 0; };
  require(hasPlace(plan.inputValue), "PLAN_INVALID", "The input of the encoded plan has no place.");
  for (const int32_t id : plan.outputs) require(hasPlace(id), "PLAN_INVALID", "An output of the encoded plan has no place.");
  for (const PlanNode& node : plan.nodes) NodeCheck(plan, node).run();
}

}  // namespace millrace::cpu
