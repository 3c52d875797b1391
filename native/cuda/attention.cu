// attention on plain multipliers: any number format of the cache and size of heads. bf16 with heads of 64 and 128 runs on tensor cores (attention_tiles.cu);
// which of the two is a matter of the cache alone, never of a step.
//
// Paged, over splits of kAttentionSplit keys aligned to cache index 0. A split is reduced from nothing (maximum, weights, weighted
// values); splits are merged in order; a sink joins the denominator last. Any number format of the cache, windows, soft cap, ALiBi, sinks, ancestors.
//
// A block takes a token, a KV head and up to kHeads of the query heads that share it, so a key is read once for them. Threads own keys while scores are
// made, elements of the head while values are added. A step of few tokens and long contexts gives each split a block of its own, which writes what it
// came to for a second kernel to merge; other steps merge as they go. It is the same arithmetic in the same order.
// Shares of the limits: not measured yet.
#include "attention.h"
#include "kv_cache.h"
#include "launch.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;
constexpr int kHeads = 8;
constexpr int kPerThread = kMaxHeadDim / kThreads;

// Largest number of tokens of a step whose splits get blocks of their own.
constexpr int64_t kMostSplitTokens = 1024;

template <class Element>
struct Block {
  const AttentionArgs& args;
  int32_t token, kvHead, firstHead, numHeads, headDim;
  float *q, *scores;  // [numHeads][headDim], [numHeads][kSplit]
  int32_t* slots;     // [kSplit]
  float* weights;     // [numHeads]: sums of a split
  float* maxima;      // [numHeads]
  KeyRange range;

  MILLRACE_GPU const typename Element::Type* keys() const { return reinterpret_cast<const typename Element::Type*>(args.cache.data); }

  MILLRACE_GPU void loadQueries() const {
    const float* from = args.q.data + token * args.q.stride + int64_t{firstHead} * headDim;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < numHeads * headDim; i += kThreads) q[i] = from[i];
  }

  // Scores, weights and their sums of keys [begin, end).
  MILLRACE_GPU void score(int32_t begin, int32_t end) const {
    __syncthreads();  // what the split before left is read no more
    const int32_t row = args.rowOfToken[token];
    for (int32_t index = begin + static_cast<int32_t>(threadIdx.x); index < end; index += kThreads) {
      const int32_t slot = slotOf(args, row, range, index);
      slots[index - begin] = slot;
      const typename Element::Type* key = keys() + kvHeadAt(args.cache, slot, kvHead);
      float dots[kHeads] = {};
      for (int32_t d = 0; d < headDim; d++) {
        const float k = Element::load(key[d]);
#pragma unroll
        for (int h = 0; h < kHeads; h++)
          if (h < numHeads) dots[h] = fmaf(q[h * headDim + d], k, dots[h]);
      }
#pragma unroll
      for (int h = 0; h < kHeads; h++) {
        if (h >= numHeads) continue;
        float value = dots[h] * args.scale;
        if (args.softCap > 0.0f) value = args.softCap * tanhf(value / args.softCap);
        if (args.slopes != nullptr) value += args.slopes[firstHead + h] * static_cast<float>(index - args.cacheIndex[token]);
        scores[h * kSplit + index - begin] = value;
      }
    }
    __syncthreads();
    const int lane = static_cast<int>(threadIdx.x % kWarp), count = end - begin;
    for (int h = static_cast<int>(threadIdx.x / kWarp); h < numHeads; h += kWarps) {
      float* own = scores + h * kSplit;
      float maximum = -INFINITY;
      for (int i = lane; i < count; i += kWarp) maximum = largerOf(maximum, own[i]);
      maximum = warpMaximum(maximum);
      float sum = 0;
      for (int i = lane; i < count; i += kWarp) {
        own[i] = expf(own[i] - maximum);
        sum += own[i];
      }
      sum = warpSum(sum);
      if (lane == 0) {
        maxima[h] = maximum;
        weights[h] = sum;
      }
    }
    __syncthreads();
  }

  // sums[h] of element d of the head.
  MILLRACE_GPU void addValues(int32_t d, int32_t count, float (&sums)[kHeads]) const {
    const typename Element::Type* values = keys() + kvHalfBlock(args.cache);
#pragma unroll
    for (int h = 0; h < kHeads; h++) sums[h] = 0;
    for (int32_t i = 0; i < count; i++) {
      const float value = Element::load(values[kvHeadAt(args.cache, slots[i], kvHead) + d]);
#pragma unroll
      for (int h = 0; h < kHeads; h++)
        if (h < numHeads) sums[h] = fmaf(scores[h * kSplit + i], value, sums[h]);
    }
  }
};

// Shared memory of a block: q, scores, slots, sums, maxima, and in the merging kernel the totals.
size_t sharedBytesOf(int32_t headDim, int32_t heads, bool merges) {
  return sizeof(float) * (static_cast<size_t>(heads) * static_cast<size_t>(headDim) * (merges ? 2 : 1) + static_cast<size_t>(heads) * kSplit + kSplit + 4 * kHeads);
}

template <class Element>
MILLRACE_GPU Block<Element> blockOf(const AttentionArgs& args, unsigned char* memory) {
  const int32_t group = args.numHeads / args.cache.numKvHeads, chunks = (group + kHeads - 1) / kHeads;
  const int32_t kvHead = static_cast<int32_t>(blockIdx.y) / chunks, within = static_cast<int32_t>(blockIdx.y) % chunks * kHeads;
  const int32_t headDim = args.cache.headDim, numHeads = group - within < kHeads ? group - within : kHeads;
  float* q = reinterpret_cast<float*>(memory);
  float* scores = q + numHeads * headDim;
  int32_t* slots = reinterpret_cast<int32_t*>(scores + numHeads * kSplit);
  float* weights = reinterpret_cast<float*>(slots + kSplit);
  const int32_t token = static_cast<int32_t>(blockIdx.x);
  return Block<Element>{args, token, kvHead, kvHead * group + within, numHeads, headDim, q, scores, slots, weights, weights + kHeads, keysOf(args, token)};
}

// All splits of a token one after the other.
template <class Element>
__global__ void __launch_bounds__(kThreads) attentionKernel(AttentionArgs args) {
  MILLRACE_DYNAMIC_SHARED(memory);
  const Block<Element> block = blockOf<Element>(args, memory);
  float* totals = block.maxima + 3 * kHeads;  // [numHeads][headDim], behind the maxima and the states
  block.loadQueries();
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < block.numHeads * block.headDim; i += kThreads) totals[i] = 0;
  HeadState states[kHeads];
  for (int h = 0; h < kHeads; h++) states[h] = {-INFINITY, 0};
  for (int32_t begin = block.range.first; begin < block.range.end;) {
    const int32_t aligned = (begin / kSplit + 1) * kSplit, end = aligned < block.range.end ? aligned : block.range.end;
    block.score(begin, end);
    float keep[kHeads], join[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; h++) {
      if (h >= block.numHeads) continue;
      const float merged = largerOf(states[h].maximum, block.maxima[h]);
      keep[h] = mergeFactor(states[h].maximum, merged);
      join[h] = expf(block.maxima[h] - merged);
      states[h].weight = states[h].weight * keep[h] + block.weights[h] * join[h];
      states[h].maximum = merged;
    }
    for (int32_t d = static_cast<int32_t>(threadIdx.x); d < block.headDim; d += kThreads) {
      float sums[kHeads];
      block.addValues(d, end - begin, sums);
#pragma unroll
      for (int h = 0; h < kHeads; h++) {
        if (h >= block.numHeads) continue;
        float& total = totals[h * block.headDim + d];
        total = total * keep[h] + sums[h] * join[h];
      }
    }
    begin = end;
  }
  for (int32_t d = static_cast<int32_t>(threadIdx.x); d < block.headDim; d += kThreads)
#pragma unroll
    for (int h = 0; h < kHeads; h++)
      if (h < block.numHeads) storeOutput(args, block.token, block.firstHead + h, d, totals[h * block.headDim + d], states[h]);
}

// One split of a token.
template <class Element>
__global__ void __launch_bounds__(kThreads) splitKernel(AttentionArgs args) {
  MILLRACE_DYNAMIC_SHARED(memory);
  const Block<Element> block = blockOf<Element>(args, memory);
  const int32_t split = static_cast<int32_t>(blockIdx.z);
  const int32_t begin = split * kSplit > block.range.first ? split * kSplit : block.range.first;
  const int32_t end = (split + 1) * kSplit < block.range.end ? (split + 1) * kSplit : block.range.end;
  if (begin >= end) return;
  block.loadQueries();
  block.score(begin, end);
  for (int32_t d = static_cast<int32_t>(threadIdx.x); d < block.headDim; d += kThreads) {
    float sums[kHeads];
    block.addValues(d, end - begin, sums);
#pragma unroll
    for (int h = 0; h < kHeads; h++)
      if (h < block.numHeads) partialOf(args, block.token, block.firstHead + h, split)[d] = sums[h];
  }
  if (threadIdx.x != 0) return;
  for (int h = 0; h < block.numHeads; h++) {
    float* state = partialOf(args, block.token, block.firstHead + h, split) + block.headDim;
    state[0] = block.maxima[h];
    state[1] = block.weights[h];
  }
}

// A block a token and head.
__global__ void __launch_bounds__(kThreads) mergeKernel(AttentionArgs args) {
  const int32_t token = static_cast<int32_t>(blockIdx.x), head = static_cast<int32_t>(blockIdx.y), headDim = args.cache.headDim;
  const KeyRange range = keysOf(args, token);
  float totals[kPerThread] = {};
  HeadState state{-INFINITY, 0};
  for (int32_t split = range.first / kSplit; split * kSplit < range.end; split++) {
    const float* partial = partialOf(args, token, head, split);
    const float maximum = partial[headDim], merged = largerOf(state.maximum, maximum);
    const float keep = mergeFactor(state.maximum, merged), join = expf(maximum - merged);
    for (int i = 0; i < kPerThread; i++) {
      const int32_t d = static_cast<int32_t>(threadIdx.x) + i * kThreads;
      if (d < headDim) totals[i] = totals[i] * keep + partial[d] * join;
    }
    state = {merged, state.weight * keep + partial[headDim + 1] * join};
  }
  for (int i = 0; i < kPerThread; i++) {
    const int32_t d = static_cast<int32_t>(threadIdx.x) + i * kThreads;
    if (d < headDim) storeOutput(args, token, head, d, totals[i], state);
  }
}

void attentionPlain(const AttentionArgs& args, const Stream& stream) {
  const int32_t group = args.numHeads / args.cache.numKvHeads, heads = group < kHeads ? group : kHeads, chunks = (group + kHeads - 1) / kHeads;
  const int64_t groups = int64_t{args.cache.numKvHeads} * chunks;
  const bool splits = args.partials != nullptr;
  const size_t sharedBytes = sharedBytesOf(args.cache.headDim, heads, !splits);
  withKvDtype(args.cache.dtype, [&](auto element) {
    using Element = decltype(element);
    if (splits) launch(splitKernel<Element>, {args.tokens, groups, args.numSplits}, kThreads, sharedBytes, stream, args);
    else launch(attentionKernel<Element>, {args.tokens, groups}, kThreads, sharedBytes, stream, args);
  });
}

}  // namespace

size_t attentionPartials(int32_t tokens, int32_t numHeads, int32_t headDim, int32_t numSplits) {
  const int64_t floats = int64_t{tokens} * numHeads * numSplits * (headDim + 2);
  return numSplits < 2 || tokens > kMostSplitTokens || floats > kMostPartials ? 0 : static_cast<size_t>(floats);
}

void attention(const AttentionArgs& args, const Stream& stream) {
  const bool splits = args.partials != nullptr;
  if (attentionTilesSupports(args)) attentionTiles(args, stream);
  else attentionPlain(args, stream);
  if (splits) launch(mergeKernel, {args.tokens, args.numHeads}, kThreads, 0, stream, args);
}

}  // namespace millrace::cuda
