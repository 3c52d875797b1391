// Sizes of blocks, and copies between them.
#include "kv_cache.h"
#include "launch.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = 256;

// One block of threads a copy and KV head: its first tokens, of K and of V.
template <class Element>
__global__ void kvCopyBlocksKernel(KvLayer cache, const int32_t* copies, int32_t group) {
  using Type = typename Element::Type;
  const int32_t* copy = copies + int64_t{4} * blockIdx.x;
  if (copy[0] != group) return;
  Type* data = reinterpret_cast<Type*>(cache.data);
  const int64_t from = kvHeadAt(cache, copy[1] * cache.blockSize, static_cast<int32_t>(blockIdx.y));
  const int64_t to = kvHeadAt(cache, copy[2] * cache.blockSize, static_cast<int32_t>(blockIdx.y));
  const int64_t half = kvHalfBlock(cache), count = int64_t{copy[3]} * cache.headDim;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) {
    data[to + i] = data[from + i];
    data[to + half + i] = data[from + half + i];
  }
}

}  // namespace

bool kvSupports(KvDtype dtype) { return dtype == KvDtype::f32 || dtype == KvDtype::f16 || dtype == KvDtype::bf16; }

size_t kvBlockBytes(const KvLayer& cache) {
  return static_cast<size_t>(2) * static_cast<size_t>(cache.numKvHeads) * static_cast<size_t>(cache.blockSize) * static_cast<size_t>(cache.headDim) *
         (cache.dtype == KvDtype::f32 ? 4 : 2);
}

// Copies of one step never read what another of them writes, so their order does not matter.
void kvCopyBlocks(const KvLayer& cache, const int32_t* copies, int32_t numCopies, int32_t group, const Stream& stream) {
  withKvDtype(cache.dtype, [&](auto element) {
    launch(kvCopyBlocksKernel<decltype(element)>, {numCopies, cache.numKvHeads}, kThreads, 0, stream, cache, copies, group);
  });
}

}  // namespace millrace::cuda
