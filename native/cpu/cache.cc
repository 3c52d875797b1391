#include "cache.h"

#include "../common/error.h"

namespace millrace::cpu {

Cache::Cache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype, const KernelTable& kernels)
    : groups_(groups), blockSize_(blockSize), dtype_(dtype) {
  require(blockSize > 0 && kAttentionSplit % blockSize == 0, "CONFIG_INVALID", "The block size must divide 256.");
  for (const CacheGroupSpec& group : groups) {
    const bool sane = group.numLayers > 0 && group.numLayers <= 65536 && group.numKvHeads > 0 && group.numKvHeads <= 65536 && group.headDim > 0 &&
                      group.headDim <= kMaxHeadDim && group.numBlocks > 0 && group.numBlocks <= INT32_MAX / blockSize;
    require(sane, "CONFIG_INVALID", "A cache group has sizes that make no cache.");
    const double bytes = static_cast<double>(kernels.kvBlockBytes(dtype, blockSize, group.numKvHeads, group.headDim)) * group.numBlocks * group.numLayers;
    require(bytes < 1e15, "MEMORY_INSUFFICIENT", "A cache group is larger than any memory.");
    layerBytes_.push_back(kernels.kvBlockBytes(dtype, blockSize, group.numKvHeads, group.headDim) * static_cast<size_t>(group.numBlocks));
    memory_.emplace_back(layerBytes_.back() * static_cast<size_t>(group.numLayers), "the KV cache");
    sizeBytes_ += memory_.back().size();
  }
}

KvLayer Cache::layer(int32_t group, int32_t layer) const {
  const CacheGroupSpec& spec = groups_[static_cast<size_t>(group)];
  uint8_t* data = memory_[static_cast<size_t>(group)].data() + layerBytes_[static_cast<size_t>(group)] * static_cast<size_t>(layer);
  return KvLayer{data, dtype_, blockSize_, spec.numKvHeads, spec.headDim};
}

}  // namespace millrace::cpu
