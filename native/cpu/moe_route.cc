// moe-route: which experts a row goes to, and with what weights. Operation for operation src/backends/reference/moe-route.ts, in f32, so that every backend
// and instruction set chooses alike; the choice is short beside the experts' work, a few microseconds for a hundred experts. Work split: rows.
#include <cmath>

#include "../common/sampling_math.h"
#include "kernels.h"
#include "moe_route.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

using samplingMath::expF32;

constexpr float kSmallestSum = 1e-20f;
constexpr int kMostExperts = 4096;
const float kLeast = -INFINITY;

float exponential(float x) { return std::isnan(x) ? x : expF32(x); }

float sigmoid(float x) {
  if (std::isnan(x)) return x;
  const float e = expF32(-std::fabs(x));
  return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

void softmax(const float* logits, int32_t count, float* out) {
  float most = kLeast, sum = 0.0f;
  for (int32_t e = 0; e < count; e++)
    if (logits[e] > most) most = logits[e];
  for (int32_t e = 0; e < count; e++) {
    out[e] = exponential(logits[e] - most);
    sum += out[e];
  }
  for (int32_t e = 0; e < count; e++) out[e] /= sum;
}

// The index of the largest of values[begin, end) that is not taken, the lowest on a tie; -1 when all are.
int32_t best(const float* values, const bool* taken, int32_t count) {
  int32_t found = -1;
  for (int32_t i = 0; i < count; i++)
    if (!taken[i] && (found < 0 || values[i] > values[found])) found = i;
  return found;
}

struct Scratch {
  float score[kMostExperts], choice[kMostExperts], groupScore[kMostExperts];
  bool taken[kMostExperts], groupTaken[kMostExperts];
};

// Takes the experts of groups that are not kept.
void dropGroups(const MoeRouteArgs& args, Scratch& s) {
  const int32_t size = args.experts / args.groups;
  for (int32_t g = 0; g < args.groups; g++) {
    float first = kLeast, second = kLeast;
    for (int32_t e = g * size; e < (g + 1) * size; e++) {
      if (s.choice[e] > first) {
        second = first;
        first = s.choice[e];
      } else if (s.choice[e] > second) {
        second = s.choice[e];
      }
    }
    const float together = args.bestTwo ? first + second : first;
    s.groupScore[g] = std::isnan(together) ? kLeast : together;
    s.groupTaken[g] = false;
  }
  for (int32_t i = 0; i < args.keptGroups; i++) s.groupTaken[best(s.groupScore, s.groupTaken, args.groups)] = true;
  for (int32_t e = 0; e < args.experts; e++) s.taken[e] = !s.groupTaken[e / size];
}

void routeRow(const MoeRouteArgs& args, const float* logits, int32_t* ids, float* weights, Scratch& s) {
  const int32_t experts = args.experts;
  if (args.isSigmoid) {
    for (int32_t e = 0; e < experts; e++) s.score[e] = sigmoid(logits[e]);
  } else if (!args.normalise || args.bias != nullptr) {
    softmax(logits, experts, s.score);
  }
  for (int32_t e = 0; e < experts; e++) {
    const float value = args.bias != nullptr ? s.score[e] + args.bias[e] : args.isSigmoid ? s.score[e] : logits[e];
    s.choice[e] = std::isnan(value) ? kLeast : value;
    s.taken[e] = false;
  }
  if (args.groups > 1) dropGroups(args, s);
  float most = kLeast, sum = 0.0f;
  for (int32_t slot = 0; slot < args.slots; slot++) {
    const int32_t e = best(s.choice, s.taken, experts);
    s.taken[e] = true;
    ids[slot] = e;
    if (logits[e] > most) most = logits[e];
  }
  for (int32_t slot = 0; slot < args.slots; slot++) {
    const int32_t e = ids[slot];
    weights[slot] = args.isSigmoid || !args.normalise ? s.score[e] : exponential(logits[e] - most);
    sum += weights[slot];
  }
  for (int32_t slot = 0; slot < args.slots; slot++) weights[slot] = (args.normalise ? weights[slot] / (sum + kSmallestSum) : weights[slot]) * args.scale;
}

}  // namespace

void moeRoute(const MoeRouteArgs& args, ThreadPool& pool) {
  constexpr int64_t kElementsPerTile = 2048;
  const int64_t step = args.experts >= kElementsPerTile ? 1 : kElementsPerTile / args.experts;
  pool.parallel((args.rows + step - 1) / step, [&](int64_t tile, int) {
    Scratch s;
    const int64_t end = (tile + 1) * step < args.rows ? (tile + 1) * step : args.rows;
    for (int64_t row = tile * step; row < end; row++)
      routeRow(args, args.logits.data + row * args.logits.stride, args.ids + row * args.idStride, args.weights.data + row * args.weights.stride, s);
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
