#include "cache.h"

#include <cstring>

#include "../common/error.h"

namespace millrace::cpu {

Cache::Cache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype, const KernelTable& kernels)
    : CacheShape(groups, blockSize), dtype_(dtype) {
  for (const CacheGroupSpec& group : groups) {
    const size_t blockBytes = kernels.kvBlockBytes({nullptr, dtype, blockSize, group.numKvHeads, group.headDim, group.isLatent});
    const double bytes = static_cast<double>(blockBytes) * group.numBlocks * group.numLayers;
    require(bytes < 1e15, "MEMORY_INSUFFICIENT", "A cache group is larger than any memory.");
    layerBytes_.push_back(blockBytes * static_cast<size_t>(group.numBlocks));
    memory_.emplace_back(layerBytes_.back() * static_cast<size_t>(group.numLayers), "the KV cache");
    sizeBytes_ += memory_.back().size();
  }
}

KvLayer Cache::layer(int32_t group, int32_t layer) const {
  const CacheGroupSpec& spec = this->group(group);
  uint8_t* data = memory_[static_cast<size_t>(group)].data() + layerBytes_[static_cast<size_t>(group)] * static_cast<size_t>(layer);
  return KvLayer{data, dtype_, blockSize(), spec.numKvHeads, spec.headDim, spec.isLatent};
}

size_t Cache::blockBytes(int32_t group) const { return layerBlockBytes(group) * static_cast<size_t>(this->group(group).numLayers); }

void Cache::readBlock(int32_t group, int32_t block, uint8_t* bytes) const {
  const size_t size = layerBlockBytes(group);
  for (int32_t i = 0; i < this->group(group).numLayers; i++, bytes += size) {
    std::memcpy(bytes, layer(group, i).data + size * static_cast<size_t>(block), size);
  }
}

void Cache::writeBlock(int32_t group, int32_t block, const uint8_t* bytes) const {
  const size_t size = layerBlockBytes(group);
  for (int32_t i = 0; i < this->group(group).numLayers; i++, bytes += size) {
    std::memcpy(layer(group, i).data + size * static_cast<size_t>(block), bytes, size);
  }
}

}  // namespace millrace::cpu
