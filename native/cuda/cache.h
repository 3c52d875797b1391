// The paged KV cache in the memory of the device: for each group and layer, numBlocks blocks side by side.
#pragma once

#include <vector>

#include "../common/step.h"
#include "kernels.h"
#include "runtime.h"

namespace millrace::cuda {

class Cache final : public CacheShape {
 public:
  // Throws CONFIG_INVALID, also for number formats and kinds of groups without a kernel, MEMORY_INSUFFICIENT.
  Cache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype);

  size_t sizeBytes() const { return sizeBytes_; }
  KvLayer layer(int32_t group, int32_t layer) const;
  // A block over all layers of its group, one layer behind the other.
  size_t blockBytes(int32_t group) const { return layerBlockBytes(group) * static_cast<size_t>(this->group(group).numLayers); }
  void readBlock(int32_t group, int32_t block, uint8_t* bytes, const Stream& stream) const;
  void writeBlock(int32_t group, int32_t block, const uint8_t* bytes, const Stream& stream) const;

 private:
  size_t layerBlockBytes(int32_t group) const { return layerBytes_[static_cast<size_t>(group)] / static_cast<size_t>(this->group(group).numBlocks); }

  KvDtype dtype_;
  std::vector<size_t> layerBytes_;
  std::vector<Buffer> memory_;  // one a group
  size_t sizeBytes_ = 0;
};

}  // namespace millrace::cuda
