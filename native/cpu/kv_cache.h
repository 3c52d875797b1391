// The KV cache as its kernels see it: layout inside a block, writing of tokens, and reading back as f32 panels. Private to kv_cache.cc,
// kv_retain.cc, attention*.cc and rope.cc.
//
// Block: K [numKvHeads][headDim][blockSize], then V [numKvHeads][blockSize][headDim], in the cache dtype. K is transposed so that in q . k the
// lanes are keys, and in p . v they are elements of the head: neither needs a sum across lanes.
// A latent block is [blockSize][headDim], nothing before it: rows that are K and V at once.
// Types that keep a parameter beside each head of a token (kv_storage.h) have those at the end of the block: of K [numKvHeads][blockSize], then of V.
// Two int4 numbers share a byte, always of one token: elements 2i and 2i + 1 of its head. K is then [(headDim + 1) / 2][blockSize] bytes.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

// Keys that attention reads at a time. Blocks divide it or are multiples of it.
constexpr int kKeyTile = 64;

// Bytes of an element (of int4: of a pair), of a head of one token, and of the parameter beside it.
MILLRACE_INLINE int64_t kvElementBytes(KvDtype dtype) { return dtype == KvDtype::f32 ? 4 : dtype == KvDtype::f16 || dtype == KvDtype::bf16 ? 2 : 1; }
MILLRACE_INLINE int64_t kvHeadBytes(const KvLayer& cache) {
  return cache.dtype == KvDtype::int4 ? (cache.headDim + 1) / 2 : cache.headDim * kvElementBytes(cache.dtype);
}
MILLRACE_INLINE int64_t kvParameterBytes(KvDtype dtype) { return dtype == KvDtype::int4 ? 4 : dtype == KvDtype::int8 || dtype == KvDtype::fp8 ? 2 : 0; }
// Bytes of K, which stands before V; of its parameters, which stand before those of V.
MILLRACE_INLINE int64_t kvHalfBlockBytes(const KvLayer& cache) {
  return cache.isLatent ? 0 : int64_t{cache.blockSize} * cache.numKvHeads * kvHeadBytes(cache);
}
MILLRACE_INLINE int64_t kvHalfParameterBytes(const KvLayer& cache) {
  return cache.isLatent ? 0 : int64_t{cache.blockSize} * cache.numKvHeads * kvParameterBytes(cache.dtype);
}
// Where the parameters of a block begin.
MILLRACE_INLINE int64_t kvParametersAt(const KvLayer& cache) {
  return roundUp(cache.isLatent ? cache.blockSize * kvHeadBytes(cache) : 2 * kvHalfBlockBytes(cache), 4);
}
// Keys and their parameters are read a vector at a time, which may reach into what stands behind them, or into padding.
MILLRACE_INLINE int64_t kvBlockStride(const KvLayer& cache) {
  const int64_t parameterBytes = kvParameterBytes(cache.dtype);
  if (cache.isLatent) return roundUp(kvParametersAt(cache) + cache.blockSize * parameterBytes, 64);
  const bool isShort = kvHalfBlockBytes(cache) < 64 || (parameterBytes > 0 && kvHalfParameterBytes(cache) < 64);
  return roundUp(kvParametersAt(cache) + 2 * kvHalfParameterBytes(cache) + (isShort ? 64 : 0), 64);
}
// First element of a head's K [headDim][blockSize] and V [blockSize][headDim] in a block, and their parameters [blockSize].
MILLRACE_INLINE uint8_t* keysOf(const KvLayer& cache, int64_t block, int kvHead) {
  return cache.data + block * kvBlockStride(cache) + int64_t{kvHead} * cache.blockSize * kvHeadBytes(cache);
}
MILLRACE_INLINE uint8_t* valuesOf(const KvLayer& cache, int64_t block, int kvHead) { return keysOf(cache, block, kvHead) + kvHalfBlockBytes(cache); }
MILLRACE_INLINE uint8_t* keyParametersOf(const KvLayer& cache, int64_t block, int kvHead) {
  return cache.data + block * kvBlockStride(cache) + kvParametersAt(cache) + int64_t{kvHead} * cache.blockSize * kvParameterBytes(cache.dtype);
}
MILLRACE_INLINE uint8_t* valueParametersOf(const KvLayer& cache, int64_t block, int kvHead) {
  return keyParametersOf(cache, block, kvHead) + kvHalfParameterBytes(cache);
}

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
void kvRotate(const KvRotateArgs&, ThreadPool&);
void kvCompress(const KvCompressArgs&, ThreadPool&);

}  // namespace millrace::cpu::MILLRACE_ISA
