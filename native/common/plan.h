// A plan as the native side reads it: src/plan/encode.ts writes the words, decodePlan checks every id and size before anything trusts them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ops.h"

namespace millrace {

constexpr int32_t kPlanMagic = 0x4d4c5250;  // "MLRP"
constexpr int32_t kPlanVersion = 2;

struct PlanValue {
  bool perLogit;        // rows: one per logit row instead of one per token
  int32_t width;
  bool isIds;           // i32 instead of f32
  int32_t viewOf;       // -1: owns memory
  int32_t viewOffset;   // elements
  int64_t arenaOffset;  // bytes, -1 for views and values that nothing touches
};

// Of rank 3: `count` matrices [rows, columns], those of the experts.
struct PlanWeight {
  int32_t format, rank, rows, columns, count = 1;
};

struct PlanNode {
  Op op;
  std::vector<int32_t> inputs, outputs, weights, constants, attrs;

  int32_t intAttr(size_t i) const { return attrs[i]; }
  float floatAttr(size_t i) const;
};

struct PlanGroup {
  bool isWindow, isLatent;
  int32_t window, numLayers, numKvHeads, headDim;
};

struct Plan {
  std::vector<PlanValue> values;
  std::vector<PlanWeight> weights;
  std::vector<std::vector<float>> constants;
  std::vector<PlanNode> nodes;
  std::vector<PlanGroup> groups;
  std::vector<int32_t> outputs;
  bool takesEmbeddings = false;
  int32_t inputValue = -1;
  int32_t numPositionAxes = 1;
  int32_t worldSize = 1;

  // Index of the value that owns the memory of `id`.
  int32_t owner(int32_t id) const { return values[id].viewOf < 0 ? id : values[id].viewOf; }
};

// Throws Error PLAN_INVALID for anything that is not a plan.
Plan decodePlan(const int32_t* words, size_t numWords);

// Bytes of the arena when axis tokens has maxTokens rows and axis logits maxLogitRows.
int64_t arenaBytes(const Plan& plan, int32_t maxTokens, int32_t maxLogitRows);

}  // namespace millrace
