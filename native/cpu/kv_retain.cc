// kvRotate and kvCompress: keys of requests that do not keep all of theirs. Layout of the cache: kv_cache.h.
//
//   rotate: K at a cache index -> K at a slot, turned by an angle; V as stored. A token's keys are read, turned and stored by one thread.
//   compress (SnapKV, Li et al. 2024, arXiv:2404.14469): for each KV head, w[j] = sum over the row's tokens and the head's queries of softmax_j(scale * q . k[j]);
//   the largest of w, pooled over neighbours, and the row's own keys move to the front.
// Both run once in many steps; rotate is bound by memory, compress is bound by f32 FMA (two passes over the keys for each block of kQueries queries). Work is split over tokens, and
// over rows and KV heads: sums are in the order of tokens, then heads, whoever computes them.
#include "kv_cache.h"
#include "kv_storage.h"
#include "rope.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kQueries = 4;                          // queries that share a widened tile of keys
constexpr int kTileVectors = kKeyTile / kLanes;

// One head of K at a slot, as numbers.
template <class Storage>
void readKey(const KvLayer& cache, int32_t slot, int kvHead, float* out) {
  const int64_t block = slot / cache.blockSize;
  const int offset = slot % cache.blockSize;
  const auto* keys = reinterpret_cast<const typename Storage::Element*>(keysOf(cache, block, kvHead)) + offset;
  const typename Storage::Scale scale = Storage::scalesAt(keyParametersOf(cache, block, kvHead), offset);
  for (int d = 0; d < cache.headDim; d++) {
    out[d] = firstLane(Storage::scaled(Storage::keys(keys + int64_t{d / Storage::kPacked} * cache.blockSize, d % Storage::kPacked), scale));
  }
}

template <class Storage>
void storeKey(const KvLayer& cache, int32_t slot, int kvHead, const float* k) {
  using Element = typename Storage::Element;
  const int64_t block = slot / cache.blockSize;
  const int offset = slot % cache.blockSize;
  Element rounded[kMaxHeadDim];
  Storage::encode(k, cache.headDim, rounded, keyParametersOf(cache, block, kvHead), offset);
  Element* keys = reinterpret_cast<Element*>(keysOf(cache, block, kvHead)) + offset;
  for (int d = 0; d < (cache.headDim + Storage::kPacked - 1) / Storage::kPacked; d++) keys[int64_t{d} * cache.blockSize] = rounded[d];
}

// K and V of one head of a token, as stored.
void moveHead(const KvLayer& cache, int32_t from, int32_t to, int kvHead) {
  if (from == to) return;
  const int64_t bytes = kvElementBytes(cache.dtype), headBytes = kvHeadBytes(cache), parameterBytes = kvParameterBytes(cache.dtype);
  const int64_t fromBlock = from / cache.blockSize, toBlock = to / cache.blockSize;
  const int64_t fromOffset = from % cache.blockSize, toOffset = to % cache.blockSize, keyRow = cache.blockSize * bytes;
  const uint8_t* source = keysOf(cache, fromBlock, kvHead) + fromOffset * bytes;
  uint8_t* target = keysOf(cache, toBlock, kvHead) + toOffset * bytes;
  for (int64_t d = 0; d < headBytes / bytes; d++) std::memmove(target + d * keyRow, source + d * keyRow, static_cast<size_t>(bytes));
  std::memmove(valuesOf(cache, toBlock, kvHead) + toOffset * headBytes, valuesOf(cache, fromBlock, kvHead) + fromOffset * headBytes, static_cast<size_t>(headBytes));
  std::memmove(keyParametersOf(cache, toBlock, kvHead) + toOffset * parameterBytes, keyParametersOf(cache, fromBlock, kvHead) + fromOffset * parameterBytes,
               static_cast<size_t>(parameterBytes));
  std::memmove(valueParametersOf(cache, toBlock, kvHead) + toOffset * parameterBytes, valueParametersOf(cache, fromBlock, kvHead) + fromOffset * parameterBytes,
               static_cast<size_t>(parameterBytes));
}

// One row of a batch at one KV head.
struct RowKeys {
  const KvCompressArgs& args;
  int32_t row;
  int kvHead;

  int32_t firstToken() const { return args.rowStart[row]; }
  int32_t endToken() const { return args.rowStart[row + 1]; }
  const int32_t* table() const { return args.blockTable + int64_t{row} * args.maxBlocks; }
  int32_t slotOf(int32_t index) const { return table()[index / args.cache.blockSize] * args.cache.blockSize + index % args.cache.blockSize; }
};

// Scores of `count` queries with all keys below `end`, [count, stride], capped; keys that a query does not see are left to its softmax.
void scoreKeys(const RowKeys& keys, const float* const* queries, int count, int32_t end, float* scores, int64_t stride, float* panel) {
  const KvCompressArgs& args = keys.args;
  const KeySource source{&args.cache, keys.table(), end, nullptr};
  for (int32_t tile = 0; tile < end; tile += kKeyTile) {
    widenKeys(source, keys.kvHead, tile, tile, smaller(end, tile + kKeyTile), panel);
    for (int m = 0; m < count; m++) {
      Vec sums[kTileVectors];
      for (int j = 0; j < kTileVectors; j++) sums[j] = zero();
      for (int d = 0; d < args.cache.headDim; d++) {
        const Vec left = set1(queries[m][d]);
        for (int j = 0; j < kTileVectors; j++) sums[j] = fma(left, load(panel + int64_t{d} * kKeyTile + j * kLanes), sums[j]);
      }
      for (int j = 0; j < kTileVectors; j++) {
        Vec s = mul(sums[j], set1(args.scale));
        if (args.softCap != 0.0f) s = mul(set1(args.softCap), tanh(div(s, set1(args.softCap))));
        store(scores + m * stride + tile + j * kLanes, s);
      }
    }
  }
}

// weights[j] += softmax_j(scores), over the first `count` keys.
void addSoftmax(float* scores, int32_t count, float* weights) {
  const float nothing = -bitCast<float>(0x7f800000);
  const int32_t end = static_cast<int32_t>(roundUp(count, kLanes));
  for (int32_t j = count; j < end; j++) scores[j] = nothing;
  Vec largest = set1(nothing);
  for (int32_t j = 0; j < end; j += kLanes) largest = max(largest, load(scores + j));
  const Vec maximum = set1(reduceMax(largest));
  Vec sum = zero();
  for (int32_t j = 0; j < end; j += kLanes) {
    const Vec p = exp(sub(load(scores + j), maximum));
    store(scores + j, p);
    sum = add(sum, p);
  }
  const Vec total = set1(reduceAdd(sum));
  for (int32_t j = 0; j < end; j += kLanes) store(weights + j, add(load(weights + j), div(load(scores + j), total)));
}

// Zeros for one call. Not std::vector: one copy of its functions, compiled for this instruction set, would serve the objects that run on every machine.
template <class T>
class Zeros {
 public:
  explicit Zeros(int64_t count) : data_(new T[static_cast<size_t>(count)]()) {}
  ~Zeros() { delete[] data_; }
  Zeros(const Zeros&) = delete;
  Zeros& operator=(const Zeros&) = delete;
  T* data() { return data_; }
  T& operator[](int64_t i) { return data_[i]; }

 private:
  T* data_;
};

// Whether index a of the weights comes before b: the larger weight, ties to the lower index.
MILLRACE_INLINE bool comesBefore(const float* weights, int32_t a, int32_t b) { return weights[a] > weights[b] || (weights[a] == weights[b] && a < b); }

// The index that is number `count` (from 1 on) in that order, by a heap of the first `count` whose root comes last.
int32_t lastOfFirst(const float* weights, int32_t numWeights, int32_t count, int32_t* heap) {
  const auto sink = [&](int32_t at) {
    for (int32_t child = 2 * at + 1; child < count; at = child, child = 2 * at + 1) {
      if (child + 1 < count && comesBefore(weights, heap[child], heap[child + 1])) child++;
      if (!comesBefore(weights, heap[at], heap[child])) return;
      const int32_t up = heap[child];
      heap[child] = heap[at];
      heap[at] = up;
    }
  };
  for (int32_t i = 0; i < count; i++) heap[i] = i;
  for (int32_t at = count / 2 - 1; at >= 0; at--) sink(at);
  for (int32_t i = count; i < numWeights; i++) {
    if (!comesBefore(weights, i, heap[0])) continue;
    heap[0] = i;
    sink(0);
  }
  return heap[0];
}

// The `count` (1 or more) largest of the pooled weights, ties to the lower index, in ascending order, into `chosen`.
void chooseKeys(const float* weights, int32_t numCandidates, int32_t count, int32_t pool, int32_t* chosen) {
  const int32_t reach = pool / 2;
  Zeros<float> pooled(numCandidates);
  for (int32_t j = 0; j < numCandidates; j++) {
    float most = weights[j];
    for (int32_t i = larger(0, j - reach); i <= smaller(numCandidates - 1, j + reach); i++) most = larger(most, weights[i]);
    pooled[j] = most == most ? most : -bitCast<float>(0x7f800000);  // a NaN would have no place in an order
  }
  const int32_t last = lastOfFirst(pooled.data(), numCandidates, count, chosen);
  int32_t next = 0;
  for (int32_t j = 0; j < numCandidates; j++)
    if (j == last || comesBefore(pooled.data(), j, last)) chosen[next++] = j;
}

void compressHead(const RowKeys& keys) {
  const KvCompressArgs& args = keys.args;
  const int32_t numTokens = keys.endToken() - keys.firstToken(), numKeys = args.cacheIndex[keys.endToken() - 1] + 1, numKept = args.kept[2 * keys.row];
  const int perKvHead = args.numHeads / args.cache.numKvHeads;
  const int64_t stride = roundUp(numKeys, kKeyTile);
  Zeros<float> scores(kQueries * stride), weights(stride), panel(int64_t{args.cache.headDim} * kKeyTile);
  const int32_t numQueries = numTokens * perKvHead;
  for (int32_t first = 0; first < numQueries; first += kQueries) {
    const int count = smaller<int32_t>(kQueries, numQueries - first);
    const float* queries[kQueries];
    for (int m = 0; m < count; m++) {
      const int32_t token = keys.firstToken() + (first + m) / perKvHead, head = keys.kvHead * perKvHead + (first + m) % perKvHead;
      queries[m] = args.q.data + token * args.q.stride + int64_t{head} * args.cache.headDim;
    }
    scoreKeys(keys, queries, count, numKeys, scores.data(), stride, panel.data());
    for (int m = 0; m < count; m++) {
      const int32_t token = keys.firstToken() + (first + m) / perKvHead;
      addSoftmax(scores.data() + m * stride, args.cacheIndex[token] + 1, weights.data());
    }
  }
  const int32_t numChosen = numKept - numTokens;
  Zeros<int32_t> chosen(larger(numChosen, 0));
  if (numChosen > 0) chooseKeys(weights.data(), numKeys - numTokens, numChosen, args.kept[2 * keys.row + 1], chosen.data());
  // An index never rises: what is yet to be moved is not written over.
  for (int32_t i = 0; i < numKept; i++) {
    const int32_t from = i < numChosen ? chosen[i] : numKeys - numKept + i;
    moveHead(args.cache, keys.slotOf(from), keys.slotOf(i), keys.kvHead);
  }
}

}  // namespace

void kvRotate(const KvRotateArgs& args, ThreadPool& pool) {
  const KvLayer& cache = args.cache;
  const int64_t width = int64_t{cache.numKvHeads} * cache.headDim;
  constexpr int64_t kTokensPerTile = 32;  // neighbouring tokens share cache lines of K: keep them on one thread
  pool.parallel(ceilDiv(args.tokens, kTokensPerTile), [&](int64_t tile, int) {
    Zeros<float> keys(width), turned(width);
    int32_t row = 0;
    for (int64_t token = tile * kTokensPerTile; token < smaller<int64_t>(args.tokens, (tile + 1) * kTokensPerTile); token++) {
      while (args.rowStart[row + 1] <= token) row++;
      const int32_t index = args.cacheIndex[token], to = args.slotMapping[token];
      const int32_t from = args.blockTable[int64_t{row} * args.maxBlocks + index / cache.blockSize] * cache.blockSize + index % cache.blockSize;
      withStorage(cache.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        for (int h = 0; h < cache.numKvHeads; h++) {
          if (args.turn.rotaryDim > 0) readKey<Storage>(cache, from, h, keys.data() + int64_t{h} * cache.headDim);
          moveHead(cache, from, to, h);
        }
        if (args.turn.rotaryDim == 0) return;
        turnHeads(args.turn, token, keys.data(), turned.data(), cache.numKvHeads);
        for (int h = 0; h < cache.numKvHeads; h++) storeKey<Storage>(cache, to, h, turned.data() + int64_t{h} * cache.headDim);
      });
    }
  });
}

void kvCompress(const KvCompressArgs& args, ThreadPool& pool) {
  const int64_t heads = args.cache.numKvHeads;
  pool.parallel(args.rows * heads, [&](int64_t tile, int) {
    const RowKeys keys{args, static_cast<int32_t>(tile / heads), static_cast<int>(tile % heads)};
    if (keys.endToken() > keys.firstToken() && args.cacheIndex[keys.endToken() - 1] + 1 > args.kept[2 * keys.row]) compressHead(keys);
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
