#include "cache.h"

#include <cstring>

#include "../common/error.h"

namespace millrace::cpu {

Cache::Cache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype, const KernelTable& kernels)
    : groups_(groups), blockSize_(blockSize), dtype_(dtype) {
  require(blockSize > 0 && kAttentionSplit % blockSize == 0, "CONFIG_INVALID", "The block size must divide 256.");
  for (const CacheGroupSpec& group : groups) {
    const bool sane = group.numLayers > 0 && group.numLayers <= 65536 && group.numKvHeads > 0 && group.numKvHeads <= 65536 && group.headDim > 0 &&
                      group.headDim <= kMaxHeadDim && group.numBlocks > 0 && group.numBlocks <= INT32_MAX / blockSize && (!group.isLatent || group.numKvHeads == 1);
    require(sane, "CONFIG_INVALID", "A cache group has sizes that make no cache.");
    const size_t blockBytes = kernels.kvBlockBytes({nullptr, dtype, blockSize, group.numKvHeads, group.headDim, group.isLatent});
    const double bytes = static_cast<double>(blockBytes) * group.numBlocks * group.numLayers;
    require(bytes < 1e15, "MEMORY_INSUFFICIENT", "A cache group is larger than any memory.");
    layerBytes_.push_back(blockBytes * static_cast<size_t>(group.numBlocks));
    memory_.emplace_back(layerBytes_.back() * static_cast<size_t>(group.numLayers), "the KV cache");
    sizeBytes_ += memory_.back().size();
  }
}

KvLayer Cache::layer(int32_t group, int32_t layer) const {
  const CacheGroupSpec& spec = groups_[static_cast<size_t>(group)];
  uint8_t* data = memory_[static_cast<size_t>(group)].data() + layerBytes_[static_cast<size_t>(group)] * static_cast<size_t>(layer);
  return KvLayer{data, dtype_, blockSize_, spec.numKvHeads, spec.headDim, spec.isLatent};
}

size_t Cache::blockBytes(int32_t group) const { return layerBlockBytes(group) * static_cast<size_t>(groups_[static_cast<size_t>(group)].numLayers); }

void Cache::readBlock(int32_t group, int32_t block, uint8_t* bytes) const {
  const size_t size = layerBlockBytes(group);
  for (int32_t i = 0; i < groups_[static_cast<size_t>(group)].numLayers; i++, bytes += size) {
    std::memcpy(bytes, layer(group, i).data + size * static_cast<size_t>(block), size);
  }
}

void Cache::writeBlock(int32_t group, int32_t block, const uint8_t* bytes) const {
  const size_t size = layerBlockBytes(group);
  for (int32_t i = 0; i < groups_[static_cast<size_t>(group)].numLayers; i++, bytes += size) {
    std::memcpy(layer(group, i).data + size * static_cast<size_t>(block), bytes, size);
  }
}

}  // namespace millrace::cpu
