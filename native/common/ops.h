// Opcodes and attribute order on the wire, equal to the table in src/plan/ops/index.ts. A test reads this file and compares: keep one op a line,
// `X(enumerator, "name", "attribute attribute ...")`, in the order of that table.
#pragma once

#include <cstdint>

#define MILLRACE_OPS(X)                                                                           \
  X(embedding, "embedding", "scale")                                                              \
  X(linear, "linear", "activation")                                                               \
  X(rmsNorm, "rms-norm", "epsilon weightOffset groupWidth")                                       \
  X(addRmsNorm, "add-rms-norm", "epsilon weightOffset groupWidth")                                \
  X(add, "add", "")                                                                               \
  X(scale, "scale", "factor")                                                                     \
  X(softCap, "soft-cap", "cap")                                                                   \
  X(gatedActivation, "gated-activation", "function")                                              \
  X(rope, "rope", "headDim rotaryDim style magnitude")                                            \
  X(kvWrite, "kv-write", "group layer")                                                           \
  X(ropeKvWrite, "rope-kv-write", "headDim rotaryDim style magnitude group layer")                \
  X(attention, "attention", "group layer numHeads headDim scale softCap window activation")       \
  X(selectRows, "select-rows", "")                                                                \
  X(allReduce, "all-reduce", "peer")                                                              \
  X(allGather, "all-gather", "peer")                                                              \
  X(allToAll, "all-to-all", "peer")                                                               \
  X(send, "send", "peer")                                                                         \
  X(recv, "recv", "peer")                                                                         \
  X(layerNorm, "layer-norm", "epsilon")                                                           \
  X(activation, "activation", "function")                                                         \
  X(positionEmbedding, "position-embedding", "axis")                                              \
  X(headLinear, "head-linear", "numHeads activation")                                             \
  X(latentWrite, "latent-write", "group layer")                                                   \
  X(latentAttention, "latent-attention", "group layer numHeads scale")                            \
  X(gatherColumns, "gather-columns", "")                                                          \
  X(moeRoute, "moe-route", "score normalise groups keptGroups groupScore scale")                  \
  X(expertLinear, "expert-linear", "activation experts")                                          \
  X(expertCombine, "expert-combine", "")                                                          \
  X(clampedSwiglu, "clamped-swiglu", "alpha limit")                                               \
  X(kvRotate, "kv-rotate", "group layer rotaryDim style")                                         \
  X(kvCompress, "kv-compress", "group layer numHeads headDim scale softCap")

namespace millrace {

enum class Op : int32_t {
#define MILLRACE_OP(name, word, attributes) name,
  MILLRACE_OPS(MILLRACE_OP)
#undef MILLRACE_OP
  count
};

inline const char* opName(Op op) {
  static const char* const names[] = {
#define MILLRACE_OP(name, word, attributes) word,
      MILLRACE_OPS(MILLRACE_OP)
#undef MILLRACE_OP
  };
  return names[static_cast<int>(op)];
}

}  // namespace millrace
