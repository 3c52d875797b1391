// The KV cache as its kernels see it: layout inside a block, writing of tokens, and reading back as f32 panels. Private to kv_cache.cc,
// attention*.cc and rope.cc.
//
// Block: K [numKvHeads][headDim][blockSize], then V [numKvHeads][blockSize][headDim], in the cache dtype. K is transposed so that in q . k the
// lanes are keys, and in p . v they are elements of the head: neither needs a sum across lanes.
// A latent block is [blockSize][headDim], nothing before it: rows that are K and V at once.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

// Keys that attention reads at a time. Blocks divide it or are multiples of it.
constexpr int kKeyTile = 64;

MILLRACE_INLINE int64_t kvElementBytes(KvDtype dtype) { return dtype == KvDtype::f32 ? 4 : 2; }
// Bytes of K, which stands before V.
MILLRACE_INLINE int64_t kvHalfBlockBytes(const KvLayer& cache) {
  return cache.isLatent ? 0 : int64_t{cache.blockSize} * cache.numKvHeads * cache.headDim * kvElementBytes(cache.dtype);
}
// Keys are read a vector at a time, which may reach into V behind them: V has at least a vector's length, or padding does.
MILLRACE_INLINE int64_t kvBlockStride(const KvLayer& cache) {
  if (cache.isLatent) return roundUp(int64_t{cache.blockSize} * cache.headDim * kvElementBytes(cache.dtype), 64);
  const int64_t half = kvHalfBlockBytes(cache);
  return roundUp(2 * half + (half < 64 ? 64 : 0), 64);
}
// First element of a head's K [headDim][blockSize] and V [blockSize][headDim] in a block.
MILLRACE_INLINE uint8_t* keysOf(const KvLayer& cache, int64_t block, int kvHead) {
  return cache.data + block * kvBlockStride(cache) + int64_t{kvHead} * cache.blockSize * cache.headDim * kvElementBytes(cache.dtype);
}
MILLRACE_INLINE uint8_t* valuesOf(const KvLayer& cache, int64_t block, int kvHead) { return keysOf(cache, block, kvHead) + kvHalfBlockBytes(cache); }

// Rounds one head's k and v [headDim] to the cache dtype and stores them at a slot (block * blockSize + offset).
void storeHead(const KvLayer& cache, int32_t slot, int kvHead, const float* k, const float* v);

// Where the keys of one query are: indices below `visibleEnd` through the block table, later ones at slots of their own.
struct KeySource {
  const KvLayer* cache;
  const int32_t* blockTable;
  int32_t visibleEnd;
  const int32_t* ancestorSlots;  // of key visibleEnd, visibleEnd + 1, ...
};

// Keys [begin, end) of the tile that starts at `tileStart` (a multiple of kKeyTile), widened to f32. The values of other keys are unspecified.
//   keys:   out[d * kKeyTile + (key - tileStart)]
//   values: out[(key - tileStart) * stride + d], zero from headDim up to stride
void widenKeys(const KeySource& source, int kvHead, int32_t tileStart, int32_t begin, int32_t end, float* out);
void widenValues(const KeySource& source, int kvHead, int32_t tileStart, int32_t begin, int32_t end, float* out, int64_t stride);

size_t kvBlockBytes(const KvLayer& cache);
void kvWrite(const KvWriteArgs&, ThreadPool&);
void latentWrite(const LatentWriteArgs&, ThreadPool&);
void kvCopyBlock(const KvLayer& cache, int32_t source, int32_t destination, int32_t tokens);

}  // namespace millrace::cpu::MILLRACE_ISA
