// Elements of the KV cache as kernels read and write them. A block is K [numKvHeads][blockSize][headDim], then V alike: a token's head is contiguous, so
// keys are rows of the tiles that tensor cores multiply with.
#pragma once

#include "gpu.h"
#include "kernels.h"

namespace millrace::cuda {

template <KvDtype dtype>
struct KvElement;
template <>
struct KvElement<KvDtype::f32> {
  using Type = float;
  static MILLRACE_GPU float load(float stored) { return stored; }
  static MILLRACE_GPU float store(float value) { return value; }
};
template <>
struct KvElement<KvDtype::f16> {
  using Type = uint16_t;
  static MILLRACE_GPU float load(uint16_t stored) { return f16ToFloat(stored); }
  static MILLRACE_GPU uint16_t store(float value) { return floatToF16(value); }
};
template <>
struct KvElement<KvDtype::bf16> {
  using Type = uint16_t;
  static MILLRACE_GPU float load(uint16_t stored) { return bf16ToFloat(stored); }
  static MILLRACE_GPU uint16_t store(float value) { return floatToBf16(value); }
};

// Elements of a head in a block, of K or V of a block, and from the start of a block to a head of a slot.
MILLRACE_GPU int64_t kvHalfBlock(const KvLayer& cache) { return int64_t{cache.numKvHeads} * cache.blockSize * cache.headDim; }
MILLRACE_GPU int64_t kvHeadAt(const KvLayer& cache, int32_t slot, int32_t kvHead) {
  const int64_t block = slot / cache.blockSize, offset = slot % cache.blockSize;
  return block * 2 * kvHalfBlock(cache) + (int64_t{kvHead} * cache.blockSize + offset) * cache.headDim;
}

// Calls f with the type of the cache as a constant. `kvSupports` says which there are.
template <class F>
void withKvDtype(KvDtype dtype, F&& f) {
  switch (dtype) {
    case KvDtype::f32: return f(KvElement<KvDtype::f32>{});
    case KvDtype::f16: return f(KvElement<KvDtype::f16>{});
    default: return f(KvElement<KvDtype::bf16>{});
  }
}

}  // namespace millrace::cuda
