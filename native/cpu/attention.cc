// attention: out[t, h] = sum_j softmax_j(cap(scale * q[t, h] . k[j])) v[j] over the keys that token t sees, paged, never a full score matrix.
// (Online softmax over splits of the keys: Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.)
//
// Shapes: q, out [tokens, numHeads * headDim]; K and V in the cache (kv_cache.h). The keys of a token are cut into splits of kAttentionSplit aligned
// to cache index 0. attention_split.cc computes a split from nothing; here splits are joined in order, sinks last. A query's result is
// therefore the same alone, in a batch and in a chunk of any size: which queries share an item or which thread runs it never shows.
//
// Work split: an item is up to kQueryRows query rows: neighbouring tokens of a sequence by the heads of one KV head, so a decode step reads each
// byte of K and V once for all heads that share it. Normally a thread takes an item at one KV head and runs its splits in turn; when there are
// fewer of these than threads want (decode of few long sequences), threads take single splits and the parts are joined afterwards, in order.
// All heads share the one row of a latent cache (multi-head latent attention): a group is as many of them as fit an item.
#include "attention.h"
#include "attention_split.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kQueryRows = 64;
constexpr int64_t kAlign = 16;              // floats: buffers start on cache lines
constexpr int64_t kMostSplitsTogether = 4;
constexpr int64_t kPartialItemsPerThread = 8;  // parts kept between computing and joining, in items of kQueryRows rows

int64_t mostRows(int32_t numHeads) { return larger(kQueryRows, numHeads); }
int64_t partialFloats(int64_t rows, int64_t stride) { return roundUp(rows * (stride + 2), kAlign) + 3 * kAlign; }

// Floats that one worker needs.
int64_t workerFloats(int32_t numHeads, int32_t headDim) {
  const int64_t rows = mostRows(numHeads), stride = roundUp(headDim, kLanes);
  return rows * stride + rows * kAttentionSplit + stride * (kKeyTile + kAttentionSplit / 2) + kAttentionSplit + 2 * partialFloats(rows, stride) + 8 * kAlign;
}

// Hands out cache-aligned pieces of scratch.
struct Arena {
  float* next;
  float* take(int64_t floats) {
    float* piece = next;
    next += roundUp(floats, kAlign);
    return piece;
  }
  PartialRows partial(int64_t rows, int64_t stride) { return {take(rows), take(rows), take(rows * stride)}; }
};

struct Worker {
  SplitScratch split;
  PartialRows part, total;
};

// Scratch of a call: items, then workers, then parts.
struct Scratch {
  AttentionItem* items;
  float* workers;
  float* parts;
};
Scratch cutScratch(const AttentionArgs& args, int numThreads) {
  const int64_t itemBytes = roundUp(int64_t{args.tokens} * static_cast<int64_t>(sizeof(AttentionItem)), 64);
  float* workers = reinterpret_cast<float*>(args.scratch + itemBytes);
  return {reinterpret_cast<AttentionItem*>(args.scratch), workers, workers + workerFloats(args.numHeads, args.cache.headDim) * numThreads};
}

Worker workerAt(const Scratch& scratch, const AttentionArgs& args, int index) {
  const int64_t rows = mostRows(args.numHeads), stride = roundUp(args.cache.headDim, kLanes);
  Arena arena{scratch.workers + workerFloats(args.numHeads, args.cache.headDim) * index};
  Worker worker;
  worker.split = {arena.take(rows * stride), arena.take(rows * kAttentionSplit), arena.take(stride * kKeyTile), arena.take(stride * kAttentionSplit / 2),
                  arena.take(kAttentionSplit)};
  worker.part = arena.partial(rows, stride);
  worker.total = arena.partial(rows, stride);
  return worker;
}

bool hasAncestors(const AttentionArgs& args, int32_t token) {
  return args.ancestorStart != nullptr && args.ancestorStart[token + 1] > args.ancestorStart[token];
}

// Cuts the rows of the batch into items; a token with ancestors stands alone, since its keys are its own. Returns their number.
int64_t makeItems(const AttentionArgs& args, int groupSize, AttentionItem* items) {
  const int32_t queries = larger(1, kQueryRows / groupSize);
  int64_t count = 0;
  for (int32_t row = 0; row < args.rows; row++) {
    for (int32_t token = args.rowStart[row]; token < args.rowStart[row + 1];) {
      AttentionItem item{row, token, 0, 0, 0};
      const bool alone = hasAncestors(args, token);
      do {
        const KeyRange keys = keysOfToken(args, token++);
        item.keyBegin = item.numTokens == 0 ? keys.begin : smaller(item.keyBegin, keys.begin);
        item.keyEnd = larger(item.keyEnd, keys.end);
        item.numTokens++;
      } while (!alone && item.numTokens < queries && token < args.rowStart[row + 1] && !hasAncestors(args, token));
      items[count++] = item;
    }
  }
  return count;
}

int32_t firstSplit(const AttentionItem& item) { return item.keyBegin / kAttentionSplit; }
int32_t endSplit(const AttentionItem& item) { return static_cast<int32_t>(ceilDiv(item.keyEnd, kAttentionSplit)); }

void clearRows(const PartialRows& total, int64_t begin, int64_t end, int64_t stride) {
  for (int64_t r = begin; r < end; r++) {
    total.maximum[r] = -bitCast<float>(0x7f800000);
    total.denominator[r] = 0.0f;
  }
  std::memset(total.output + begin * stride, 0, static_cast<size_t>((end - begin) * stride) * 4);
}

// Sinks, division by the denominator, and out.
void finishItem(const ItemRows& rows, const PartialRows& total, int64_t firstRow) {
  const AttentionArgs& args = rows.args;
  const int headDim = valueDim(args);
  for (int r = 0; r < rows.rows(); r++) {
    float denominator = total.denominator[firstRow + r];
    Vec keep = set1(1.0f);
    if (args.sinks != nullptr) {
      const float sink = args.sinks[rows.head(r)] * kLog2e, m = larger(total.maximum[firstRow + r], sink);
      keep = exp2Negative(set1(total.maximum[firstRow + r] - m));
      denominator = firstLane(fma(set1(denominator), keep, exp2Negative(set1(sink - m))));
    }
    const Vec divisor = set1(denominator == 0.0f ? 1.0f : denominator);  // no key at all: zeros
    const float* from = total.output + (firstRow + r) * rows.stride;
    float* to = args.out.data + rows.token(r) * args.out.stride + int64_t{rows.head(r)} * headDim;
    for (int d = 0; d < headDim; d += kLanes) {
      const Vec v = div(mul(load(from + d), keep), divisor);
      if (headDim - d >= kLanes) store(to + d, v);
      else storePartial(to + d, v, headDim - d);
    }
  }
}

// A call, with its items. `groups` KV heads, or groups of heads of a latent cache.
struct Call {
  const AttentionArgs& args;
  Scratch scratch;
  int groupSize, groups;
  int64_t stride, numItems;

  ItemRows rowsOf(int64_t item, int kvHead) const { return {args, scratch.items[item], kvHead, groupSize, stride}; }
};

void runItem(const Call& call, int64_t item, int kvHead, int workerIndex) {
  const ItemRows rows = call.rowsOf(item, kvHead);
  const Worker worker = workerAt(call.scratch, call.args, workerIndex);
  gatherQueries(rows, worker.split);
  clearRows(worker.total, 0, rows.rows(), call.stride);
  for (int32_t split = firstSplit(rows.item); split < endSplit(rows.item); split++) {
    computeSplit(rows, split, worker.split, worker.part);
    for (int r = 0; r < rows.rows(); r++) mergeRow(worker.total, r, worker.part, r, call.stride);
  }
  finishItem(rows, worker.total, 0);
}

// Few items, several splits each: waves of (item, KV head, split), then the parts of each item joined in order.
void runSplits(const Call& call, ThreadPool& pool) {
  const AttentionArgs& args = call.args;
  const int kvHeads = call.groups;
  const int64_t units = call.numItems * kvHeads;
  int32_t mostTokens = 1;
  for (int64_t i = 0; i < call.numItems; i++) mostTokens = larger(mostTokens, call.scratch.items[i].numTokens);
  const int64_t rowsPerUnit = int64_t{mostTokens} * call.groupSize;
  const int64_t capacity = mostRows(args.numHeads) * kPartialItemsPerThread * pool.numThreads();
  Arena arena{call.scratch.parts};
  const PartialRows totals = arena.partial(units * rowsPerUnit, call.stride), parts = arena.partial(capacity - units * rowsPerUnit, call.stride);
  const int64_t splitsPerWave = larger<int64_t>(1, (capacity - units * rowsPerUnit) / (units * rowsPerUnit));

  clearRows(totals, 0, units * rowsPerUnit, call.stride);
  int64_t mostSplits = 0;
  for (int64_t i = 0; i < call.numItems; i++) mostSplits = larger<int64_t>(mostSplits, endSplit(call.scratch.items[i]) - firstSplit(call.scratch.items[i]));

  for (int64_t wave = 0; wave < mostSplits; wave += splitsPerWave) {
    const int64_t width = smaller(splitsPerWave, mostSplits - wave);
    const auto splitOf = [&](int64_t unit, int64_t turn) { return firstSplit(call.scratch.items[unit / kvHeads]) + static_cast<int32_t>(wave + turn); };
    // neighbouring splits on one thread: the second is fetched while the first is computed
    const int64_t together = larger<int64_t>(1, smaller<int64_t>(kMostSplitsTogether, units * width / (4 * pool.numThreads())));
    pool.parallel(units * ceilDiv(width, together), [&](int64_t index, int workerIndex) {
      const int64_t unit = index % units, begin = index / units * together;
      const ItemRows rows = call.rowsOf(unit / kvHeads, static_cast<int>(unit % kvHeads));
      if (splitOf(unit, begin) >= endSplit(rows.item)) return;
      const SplitScratch buffers = workerAt(call.scratch, args, workerIndex).split;
      gatherQueries(rows, buffers);
      for (int64_t turn = begin; turn < smaller(begin + together, width) && splitOf(unit, turn) < endSplit(rows.item); turn++) {
        const int64_t row = (unit * width + turn) * rowsPerUnit;
        computeSplit(rows, splitOf(unit, turn), buffers, {parts.maximum + row, parts.denominator + row, parts.output + row * call.stride});
      }
    });
    pool.parallel(units, [&](int64_t unit, int) {
      const ItemRows rows = call.rowsOf(unit / kvHeads, static_cast<int>(unit % kvHeads));
      for (int64_t turn = 0; turn < width && splitOf(unit, turn) < endSplit(rows.item); turn++)
        for (int r = 0; r < rows.rows(); r++) mergeRow(totals, unit * rowsPerUnit + r, parts, (unit * width + turn) * rowsPerUnit + r, call.stride);
      if (wave + width == mostSplits) finishItem(rows, totals, unit * rowsPerUnit);
    });
  }
}

// Heads in a group. Of a latent cache: the most that divide all heads and fit an item, so that a byte is read as rarely as can be; fewer while threads
// would stand idle. Who shares an item never shows.
int headsPerGroup(const AttentionArgs& args, int numThreads) {
  if (!args.cache.isLatent) return args.numHeads / args.cache.numKvHeads;
  int size = smaller(args.numHeads, kQueryRows);
  while (args.numHeads % size != 0) size--;
  int64_t splits = 0;
  for (int32_t row = 0; row < args.rows; row++) {
    const int32_t first = args.rowStart[row], end = args.rowStart[row + 1];
    if (end > first) splits += ceilDiv(end - first, larger(1, kQueryRows / size)) * ceilDiv(keysOfToken(args, end - 1).end, kAttentionSplit);
  }
  while (size % 2 == 0 && size > kLanes && splits * (args.numHeads / size) < numThreads) size /= 2;
  return size;
}

void countSplits(const AttentionArgs& args) {
  if (args.counters == nullptr) return;
  uint64_t splits = 0;
  for (int32_t token = 0; token < args.tokens; token++) {
    const KeyRange keys = keysOfToken(args, token);
    splits += static_cast<uint64_t>(ceilDiv(keys.end, kAttentionSplit) - keys.begin / kAttentionSplit);
  }
  args.counters->attentionSplits += splits * static_cast<uint64_t>(args.numHeads);
}

}  // namespace

size_t attentionScratchBytes(int32_t maxTokens, int32_t numHeads, int32_t headDim, int32_t numThreads) {
  const int64_t items = roundUp(int64_t{maxTokens} * static_cast<int64_t>(sizeof(AttentionItem)), 64);
  const int64_t parts = partialFloats(mostRows(numHeads) * kPartialItemsPerThread * numThreads, roundUp(headDim, kLanes)) + 8 * kAlign;
  return static_cast<size_t>(items + (workerFloats(numHeads, headDim) * numThreads + parts) * 4);
}

void attention(const AttentionArgs& args, ThreadPool& pool) {
  if (args.tokens == 0) return;
  const int groupSize = headsPerGroup(args, pool.numThreads()), kvHeads = args.numHeads / groupSize;
  Call call{args, cutScratch(args, pool.numThreads()), groupSize, kvHeads, roundUp(valueDim(args), kLanes), 0};
  call.numItems = makeItems(args, call.groupSize, call.scratch.items);
  countSplits(args);

  bool severalSplits = false;
  for (int64_t i = 0; i < call.numItems; i++) severalSplits = severalSplits || endSplit(call.scratch.items[i]) - firstSplit(call.scratch.items[i]) > 1;
  if (severalSplits && pool.numThreads() > 1 && call.numItems * kvHeads < 2 * pool.numThreads()) return runSplits(call, pool);

  // Later items of a sequence see more keys: they go first, for an even end.
  pool.parallel(call.numItems * kvHeads,
                [&](int64_t index, int worker) { runItem(call, call.numItems - 1 - index / kvHeads, static_cast<int>(index % kvHeads), worker); });
}

}  // namespace millrace::cpu::MILLRACE_ISA
