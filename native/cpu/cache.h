// The paged KV cache: for each group and layer, numBlocks blocks side by side. The layout inside a block is the attention kernels' own.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/memory.h"
#include "../common/step.h"
#include "kernels.h"

namespace millrace::cpu {

class Cache final : public CacheShape {
 public:
  // Throws CONFIG_INVALID for sizes that make no cache, MEMORY_INSUFFICIENT.
  Cache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype, const KernelTable& kernels);

  size_t sizeBytes() const { return sizeBytes_; }
  KvLayer layer(int32_t group, int32_t layer) const;
  // A block over all layers of its group, one layer behind the other.
  size_t blockBytes(int32_t group) const;
  void readBlock(int32_t group, int32_t block, uint8_t* bytes) const;
  void writeBlock(int32_t group, int32_t block, const uint8_t* bytes) const;

 private:
  size_t layerBlockBytes(int32_t group) const { return layerBytes_[static_cast<size_t>(group)] / static_cast<size_t>(this->group(group).numBlocks); }

  std::vector<size_t> layerBytes_;
  std::vector<Memory> memory_;  // one a group
  KvDtype dtype_;
  size_t sizeBytes_ = 0;
};

}  // namespace millrace::cpu
