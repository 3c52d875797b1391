// The paged KV cache: for each group and layer, numBlocks blocks side by side. The layout inside a block is the attention kernels' own.
#pragma once

#include <cstdint>
#include <vector>

#include "../common/memory.h"
#include "kernels.h"

namespace millrace::cpu {

struct CacheGroupSpec {
  int32_t numLayers, numKvHeads, headDim, numBlocks;
  bool isLatent;  // one row of headDim a token in place of K and V
};

class Cache {
 public:
  // Throws CONFIG_INVALID for sizes that make no cache, MEMORY_INSUFFICIENT.
  Cache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype, const KernelTable& kernels);

  const std::vector<CacheGroupSpec>& groups() const { return groups_; }
  int32_t blockSize() const { return blockSize_; }
  size_t sizeBytes() const { return sizeBytes_; }
  KvLayer layer(int32_t group, int32_t layer) const;
  // A block over all layers of its group, one layer behind the other.
  size_t blockBytes(int32_t group) const;
  void readBlock(int32_t group, int32_t block, uint8_t* bytes) const;
  void writeBlock(int32_t group, int32_t block, const uint8_t* bytes) const;

 private:
  size_t layerBlockBytes(int32_t group) const { return layerBytes_[static_cast<size_t>(group)] / static_cast<size_t>(groups_[static_cast<size_t>(group)].numBlocks); }

  std::vector<CacheGroupSpec> groups_;
  std::vector<size_t> layerBytes_;
  std::vector<Memory> memory_;  // one a group
  int32_t blockSize_;
  KvDtype dtype_;
  size_t sizeBytes_ = 0;
};

}  // namespace millrace::cpu
