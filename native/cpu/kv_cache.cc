// Writing, copying and widening of K and V in the paged cache. Layout: kv_cache.h. Streams: bound by memory; work is split over tokens.
#include "kv_cache.h"
#include "kv_runs.h"
#include "kv_storage.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

template <class Storage>
MILLRACE_INLINE void storeHeadAs(const KvLayer& cache, int32_t slot, int kvHead, const float* k, const float* v) {
  using Element = typename Storage::Element;
  const int64_t block = slot / cache.blockSize;
  const int offset = slot % cache.blockSize;
  const int rowLength = (cache.headDim + Storage::kPacked - 1) / Storage::kPacked;
  Element rounded[kMaxHeadDim];
  Storage::encode(k, cache.headDim, rounded, keyParametersOf(cache, block, kvHead), offset);
  Element* keys = reinterpret_cast<Element*>(keysOf(cache, block, kvHead)) + offset;
  for (int d = 0; d < rowLength; d++) keys[int64_t{d} * cache.blockSize] = rounded[d];
  Element* values = reinterpret_cast<Element*>(valuesOf(cache, block, kvHead)) + int64_t{offset} * rowLength;
  Storage::encode(v, cache.headDim, values, valueParametersOf(cache, block, kvHead), offset);
}

// Keys offset..offset + count of one block into the panel. A vector may read past the row, never past the block (kvBlockStride).
template <class Storage>
MILLRACE_INLINE void widenKeyColumns(const KvLayer& cache, int32_t block, int kvHead, int offset, int count, float* out) {
  const auto* keys = reinterpret_cast<const typename Storage::Element*>(keysOf(cache, block, kvHead));
  const uint8_t* parameters = keyParametersOf(cache, block, kvHead);
  typename Storage::Scale scales[kKeyTile / kLanes];
  for (int i = 0; i < count; i += kLanes) scales[i / kLanes] = Storage::scalesAt(parameters, offset + i);
  for (int d = 0; d < cache.headDim; d++) {
    const typename Storage::Element* from = keys + int64_t{d / Storage::kPacked} * cache.blockSize + offset;
    const int part = d % Storage::kPacked;
    float* to = out + int64_t{d} * kKeyTile;
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) store(to + i, Storage::scaled(Storage::keys(from + i, part), scales[i / kLanes]));
    if (i < count) storePartial(to + i, Storage::scaled(Storage::keys(from + i, part), scales[i / kLanes]), count - i);
  }
}

template <class Storage>
MILLRACE_INLINE void widenValueRow(const typename Storage::Element* from, const typename Storage::Scale& scale, int headDim, float* to, int64_t stride) {
  int d = 0;
  for (; d + kLanes <= headDim; d += kLanes) store(to + d, Storage::scaled(Storage::values(from, d), scale));
  for (; d < headDim; d++) to[d] = firstLane(Storage::scaled(set1(Storage::one(from, d)), scale));
  for (; d < stride; d++) to[d] = 0.0f;
}

}  // namespace

void storeHead(const KvLayer& cache, int32_t slot, int kvHead, const float* k, const float* v) {
  withStorage(cache.dtype, [&](auto storage) { storeHeadAs<decltype(storage)>(cache, slot, kvHead, k, v); });
}

void widenKeys(const KeySource& source, int kvHead, int32_t tileStart, int32_t begin, int32_t end, float* out) {
  const KvLayer& cache = *source.cache;
  withStorage(cache.dtype, [&](auto storage) {
    using Storage = decltype(storage);
    const auto widen = [&](int32_t key, int32_t block, int32_t offset, int32_t count) {
      widenKeyColumns<Storage>(cache, block, kvHead, offset, count, out + (key - tileStart));
    };
    // Whole blocks, for whole vectors: what is in the other slots is not looked at.
    const int32_t tableBegin = larger(tileStart, begin - begin % cache.blockSize);
    const int32_t tableEnd = smaller(tileStart + kKeyTile, static_cast<int32_t>(roundUp(smaller(end, source.visibleEnd), cache.blockSize)));
    forTableRuns(source, tableBegin, tableEnd, widen);
    forAncestors(source, begin, end, widen);
  });
}

void widenValues(const KeySource& source, int kvHead, int32_t tileStart, int32_t begin, int32_t end, float* out, int64_t stride) {
  const KvLayer& cache = *source.cache;
  withStorage(cache.dtype, [&](auto storage) {
    using Storage = decltype(storage);
    const auto widen = [&](int32_t key, int32_t block, int32_t offset, int32_t count) {
      const int64_t rowLength = (cache.headDim + Storage::kPacked - 1) / Storage::kPacked;
      const auto* values = reinterpret_cast<const typename Storage::Element*>(valuesOf(cache, block, kvHead)) + offset * rowLength;
      const uint8_t* parameters = valueParametersOf(cache, block, kvHead);
      for (int32_t i = 0; i < count; i++) {
        const typename Storage::Scale scale = Storage::scaleAt(parameters, offset + i);
        widenValueRow<Storage>(values + i * rowLength, scale, cache.headDim, out + (key - tileStart + i) * stride, stride);
      }
    };
    forTableRuns(source, begin, smaller(end, source.visibleEnd), widen);
    forAncestors(source, begin, end, widen);
  });
}

size_t kvBlockBytes(const KvLayer& cache) { return static_cast<size_t>(kvBlockStride(cache)); }

void kvWrite(const KvWriteArgs& args, ThreadPool& pool) {
  const KvLayer& cache = args.cache;
  constexpr int64_t kTokensPerTile = 32;  // neighbouring tokens share cache lines of K: keep them on one thread
  const auto write = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      if (args.slotMapping[t] < 0) continue;
      for (int h = 0; h < cache.numKvHeads; h++)
        storeHead(cache, args.slotMapping[t], h, args.k.data + t * args.k.stride + h * cache.headDim, args.v.data + t * args.v.stride + h * cache.headDim);
    }
  };
  if (args.tokens <= kTokensPerTile) return write(0, args.tokens);
  pool.parallel(ceilDiv(args.tokens, kTokensPerTile),
                [&](int64_t tile, int) { write(tile * kTokensPerTile, smaller<int64_t>(args.tokens, (tile + 1) * kTokensPerTile)); });
}

void latentWrite(const LatentWriteArgs& args, ThreadPool& pool) {
  const KvLayer& cache = args.cache;
  const int keyWidth = cache.headDim - args.rank;
  constexpr int64_t kTokensPerTile = 64;
  pool.parallel(ceilDiv(args.tokens, kTokensPerTile), [&](int64_t tile, int) {
    withStorage(cache.dtype, [&](auto storage) {
      using Storage = decltype(storage);
      using Element = typename Storage::Element;
      float row[kMaxHeadDim];  // one row, and so one scale, for both parts
      for (int64_t t = tile * kTokensPerTile; t < smaller<int64_t>(args.tokens, (tile + 1) * kTokensPerTile); t++) {
        const int32_t slot = args.slotMapping[t];
        if (slot < 0) continue;
        const int block = slot / cache.blockSize, offset = slot % cache.blockSize;
        std::memcpy(row, args.latent.data + t * args.latent.stride, static_cast<size_t>(args.rank) * 4);
        std::memcpy(row + args.rank, args.key.data + t * args.key.stride, static_cast<size_t>(keyWidth) * 4);
        uint8_t* out = valuesOf(cache, block, 0) + offset * kvHeadBytes(cache);
        Storage::encode(row, cache.headDim, reinterpret_cast<Element*>(out), valueParametersOf(cache, block, 0), offset);
      }
    });
  });
}

void kvCopyBlock(const KvLayer& cache, int32_t source, int32_t destination, int32_t tokens) {
  const int64_t bytes = kvElementBytes(cache.dtype), headBytes = kvHeadBytes(cache), parameterBytes = kvParameterBytes(cache.dtype);
  const int64_t keyRow = cache.blockSize * bytes;
  for (int h = 0; h < cache.numKvHeads; h++) {
    const uint8_t* from = keysOf(cache, source, h);
    uint8_t* to = keysOf(cache, destination, h);
    for (int64_t d = 0; d < headBytes / bytes && !cache.isLatent; d++) std::memcpy(to + d * keyRow, from + d * keyRow, static_cast<size_t>(tokens * bytes));
    std::memcpy(valuesOf(cache, destination, h), valuesOf(cache, source, h), static_cast<size_t>(tokens * headBytes));
    std::memcpy(keyParametersOf(cache, destination, h), keyParametersOf(cache, source, h), static_cast<size_t>(tokens * parameterBytes));
    std::memcpy(valueParametersOf(cache, destination, h), valueParametersOf(cache, source, h), static_cast<size_t>(tokens * parameterBytes));
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
