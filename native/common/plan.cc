#include "plan.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "error.h"
#include "weight_formats.h"

namespace millrace {
namespace {

[[noreturn]] void invalid(const std::string& what) { throw Error("PLAN_INVALID", "The encoded plan is not legal: " + what + "."); }

void check(bool holds, const char* what) {
  if (!holds) invalid(what);
}

class Words {
 public:
  Words(const int32_t* words, size_t count) : next_(words), end_(words + count) {}

  int32_t take() {
    check(next_ < end_, "it ends early");
    return *next_++;
  }
  int32_t takeIn(int64_t low, int64_t high, const char* what) {
    const int32_t word = take();
    if (word < low || word > high) invalid(std::string(what) + " is " + std::to_string(word));
    return word;
  }
  // A count of things that take at least one word each: bounded by what is left, so that a hostile count allocates nothing.
  size_t takeCount(const char* what) {
    const int32_t count = take();
    if (count < 0 || count > end_ - next_) invalid(std::string(what) + " are " + std::to_string(count));
    return static_cast<size_t>(count);
  }
  std::vector<int32_t> takeList(const char* what) {
    std::vector<int32_t> list(takeCount(what));
    for (int32_t& word : list) word = take();
    return list;
  }
  bool done() const { return next_ == end_; }

 private:
  const int32_t* next_;
  const int32_t* end_;
};

constexpr int64_t kMaxWidth = int64_t{1} << 28;

PlanValue decodeValue(Words& words, size_t numValues) {
  PlanValue value;
  value.perLogit = words.takeIn(0, 1, "an axis") == 1;
  value.width = words.takeIn(1, kMaxWidth, "a width");
  value.isIds = words.takeIn(0, 1, "a dtype") == 1;
  value.viewOf = words.takeIn(-1, static_cast<int64_t>(numValues) - 1, "a viewed value");
  value.viewOffset = words.takeIn(0, kMaxWidth, "a view offset");
  const int32_t low = words.take(), high = words.take();
  value.arenaOffset = static_cast<int64_t>((static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32) | static_cast<uint32_t>(low));
  check(value.arenaOffset >= -1 && value.arenaOffset < (int64_t{1} << 46), "an arena offset is out of range");
  check(value.arenaOffset < 0 || value.arenaOffset % 4 == 0, "an arena offset is not aligned");
  return value;
}

void checkViews(const Plan& plan) {
  for (const PlanValue& value : plan.values) {
    if (value.viewOf < 0) continue;
    const PlanValue& base = plan.values[value.viewOf];
    check(base.viewOf < 0, "a view of a view");
    check(int64_t{value.viewOffset} + value.width <= base.width && value.perLogit == base.perLogit && value.isIds == base.isIds,
          "a view lies outside its value");
  }
}

PlanWeight decodeWeight(Words& words) {
  PlanWeight weight;
  weight.format = words.takeIn(0, static_cast<int32_t>(WeightFormat::count) - 1, "a weight format");
  weight.rank = words.takeIn(1, 3, "a weight's rank");
  weight.rows = words.takeIn(1, INT32_MAX, "a weight's rows");
  weight.columns = words.takeIn(1, kMaxWidth, "a weight's columns");
  weight.count = words.takeIn(1, 1 << 16, "a weight's matrices");
  check(weight.rank == 3 || weight.count == 1, "a weight of rank below 3 has several matrices");
  check(weight.rank >= 2 || (weight.columns == 1 && weight.format == 0), "a vector is not f32");
  check(weight.columns % blockSize(static_cast<WeightFormat>(weight.format)).elements == 0, "the rows of a matrix are not whole blocks of its format");
  return weight;
}

size_t countAttributes(Op op) {
  static const char* const attributes[] = {
#define MILLRACE_OP(name, word, attributes) attributes,
      MILLRACE_OPS(MILLRACE_OP)
#undef MILLRACE_OP
  };
  const char* text = attributes[static_cast<int>(op)];
  if (*text == 0) return 0;
  return 1 + static_cast<size_t>(std::count(text, text + std::strlen(text), ' '));
}

void checkIds(const std::vector<int32_t>& ids, int64_t low, size_t count, const char* what) {
  for (const int32_t id : ids)
    if (id < low || id >= static_cast<int64_t>(count)) invalid(std::string(what) + " " + std::to_string(id) + " does not exist");
}

PlanNode decodeNode(Words& words, const Plan& plan) {
  PlanNode node;
  node.op = static_cast<Op>(words.takeIn(0, static_cast<int32_t>(Op::count) - 1, "an opcode"));
  node.inputs = words.takeList("inputs");
  node.outputs = words.takeList("outputs");
  node.weights = words.takeList("weights");
  node.constants = words.takeList("constants");
  node.attrs = words.takeList("attributes");
  checkIds(node.inputs, 0, plan.values.size(), "input");
  checkIds(node.outputs, 0, plan.values.size(), "output");
  checkIds(node.weights, -1, plan.weights.size(), "weight");
  checkIds(node.constants, 0, plan.constants.size(), "constant");
  check(node.attrs.size() == countAttributes(node.op), "an op has the wrong number of attributes");
  return node;
}

}  // namespace

float PlanNode::floatAttr(size_t i) const {
  float value;
  std::memcpy(&value, &attrs[i], sizeof value);
  return value;
}

Plan decodePlan(const int32_t* data, size_t numWords) {
  Words words(data, numWords);
  check(words.take() == kPlanMagic, "it has the wrong magic word");
  check(words.take() == kPlanVersion, "it has another version than this addon");
  Plan plan;
  const size_t numValues = words.takeCount("values"), numWeights = words.takeCount("weights"), numConstants = words.takeCount("constants");
  const size_t numNodes = words.takeCount("nodes"), numGroups = words.takeCount("groups");
  plan.takesEmbeddings = words.takeIn(0, 1, "the input kind") == 1;
  plan.inputValue = words.takeIn(0, static_cast<int64_t>(numValues) - 1, "the input value");
  plan.numPositionAxes = words.takeIn(1, 8, "the number of position axes");
  plan.worldSize = words.takeIn(1, 1 << 16, "the world size");
  const size_t numOutputs = words.takeCount("outputs");
  for (size_t i = 0; i < numValues; i++) plan.values.push_back(decodeValue(words, numValues));
  checkViews(plan);
  for (size_t i = 0; i < numWeights; i++) plan.weights.push_back(decodeWeight(words));
  for (size_t i = 0; i < numConstants; i++) {
    const std::vector<int32_t> bits = words.takeList("elements of a constant");
    std::vector<float> constant(bits.size());
    if (!bits.empty()) std::memcpy(constant.data(), bits.data(), bits.size() * sizeof(float));
    plan.constants.push_back(std::move(constant));
  }
  for (size_t i = 0; i < numNodes; i++) plan.nodes.push_back(decodeNode(words, plan));
  for (size_t i = 0; i < numGroups; i++) {
    PlanGroup group;
    const int32_t kind = words.takeIn(0, 2, "a group kind");
    group.isWindow = kind == 1;
    group.isLatent = kind == 2;
    group.window = words.takeIn(0, INT32_MAX, "a window");
    group.numLayers = words.takeIn(1, 1 << 16, "a group's layers");
    group.numKvHeads = words.takeIn(1, 1 << 16, "a group's KV heads");
    group.headDim = words.takeIn(1, 1 << 16, "a group's head size");
    plan.groups.push_back(group);
  }
  for (size_t i = 0; i < numOutputs; i++) plan.outputs.push_back(words.takeIn(0, static_cast<int64_t>(numValues) - 1, "an output"));
  check(words.done(), "it has words left over");
  check(plan.values[plan.inputValue].isIds == !plan.takesEmbeddings, "the input has the wrong dtype");
  return plan;
}

int64_t arenaBytes(const Plan& plan, int32_t maxTokens, int32_t maxLogitRows) {
  int64_t bytes = 0;
  for (const PlanValue& value : plan.values) {
    if (value.arenaOffset < 0) continue;
    const int64_t rows = value.perLogit ? maxLogitRows : maxTokens;
    bytes = std::max(bytes, value.arenaOffset + rows * value.width * 4);
  }
  return bytes;
}

}  // namespace millrace
