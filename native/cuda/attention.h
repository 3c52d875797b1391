// What the kernels of attention share: which keys a token sees, and how splits are merged.
#pragma once

#include "gpu.h"
#include "kernels.h"

namespace millrace::cuda {

constexpr int kSplit = kAttentionSplit;

// Maximum of the scores, and sum of e^(score - maximum).
struct HeadState {
  float maximum, weight;
};

MILLRACE_GPU float mergeFactor(float maximum, float merged) { return maximum == -INFINITY ? 0.0f : expf(maximum - merged); }

// Keys [first, end) of a token; those from visibleEnd on are ancestors, from `ancestors` in their list.
struct KeyRange {
  int32_t first, end, visibleEnd, ancestors;
};
MILLRACE_GPU KeyRange keysOf(const AttentionArgs& args, int32_t token) {
  KeyRange range;
  const int32_t own = args.cacheIndex[token];
  range.visibleEnd = args.visibleEnd[token];
  range.ancestors = args.ancestorStart == nullptr ? 0 : args.ancestorStart[token];
  const int32_t extra = args.ancestorStart == nullptr ? 0 : args.ancestorStart[token + 1] - range.ancestors;
  const int32_t reach = args.window < 0 ? -args.window : args.window;
  range.first = args.window == 0 || own + 1 - reach < 0 ? 0 : own + 1 - reach;
  const int32_t ahead = own + reach;
  range.end = args.window < 0 ? (range.visibleEnd < ahead ? range.visibleEnd : ahead) : range.visibleEnd + extra;
  return range;
}

MILLRACE_GPU int32_t slotOf(const AttentionArgs& args, int32_t row, const KeyRange& range, int32_t index) {
  const int32_t blockSize = args.cache.blockSize;
  if (index >= range.visibleEnd) return args.ancestorSlots[range.ancestors + index - range.visibleEnd];
  return args.blockTable[int64_t{row} * args.maxBlocks + index / blockSize] * blockSize + index % blockSize;
}

MILLRACE_GPU void storeOutput(const AttentionArgs& args, int32_t token, int32_t head, int32_t d, float total, HeadState state) {
  float denominator = state.weight;
  if (args.sinks != nullptr && denominator > 0.0f) denominator += expf(args.sinks[head] - state.maximum);
  args.out.data[token * args.out.stride + int64_t{head} * args.cache.headDim + d] = denominator == 0.0f ? 0.0f : total / denominator;
}

// Partials: [tokens][numHeads][numSplits][headDim + 2]: weighted values, maximum, weight. Of splits without keys nothing is written.
MILLRACE_GPU float* partialOf(const AttentionArgs& args, int64_t token, int64_t head, int64_t split) {
  return args.partials + ((token * args.numHeads + head) * args.numSplits + split) * (args.cache.headDim + 2);
}

// attention_tiles.cu: bf16 caches with heads of 64 or 128 elements, on tensor cores.
bool attentionTilesSupports(const AttentionArgs& args);
void attentionTiles(const AttentionArgs& args, const Stream& stream);

}  // namespace millrace::cuda
