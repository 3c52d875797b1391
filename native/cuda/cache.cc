#include "cache.h"

#include "../common/error.h"

namespace millrace::cuda {

Cache::Cache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype) : CacheShape(groups, blockSize), dtype_(dtype) {
  require(kvSupports(dtype), "CONFIG_INVALID", "The GPU has no kernel for a KV cache of this format: it has f32, f16 and bf16.");
  for (const CacheGroupSpec& group : groups) {
    require(!group.isLatent, "CONFIG_INVALID", "The GPU has no kernel for latent cache groups.");
    const size_t blockBytes = kvBlockBytes({nullptr, dtype, blockSize, group.numKvHeads, group.headDim});
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
  return KvLayer{data, dtype_, blockSize(), spec.numKvHeads, spec.headDim};
}

void Cache::readBlock(int32_t group, int32_t block, uint8_t* bytes, const Stream& stream) const {
  const size_t size = layerBlockBytes(group);
  stream.downloadRows(bytes, layer(group, 0).data + size * static_cast<size_t>(block), layerBytes_[static_cast<size_t>(group)], size,
                      static_cast<size_t>(this->group(group).numLayers));
}

void Cache::writeBlock(int32_t group, int32_t block, const uint8_t* bytes, const Stream& stream) const {
  const size_t size = layerBlockBytes(group);
  for (int32_t i = 0; i < this->group(group).numLayers; i++, bytes += size) stream.upload(layer(group, i).data + size * static_cast<size_t>(block), bytes, size);
}

}  // namespace millrace::cuda
