// The keys of a query as runs of slots. Private to kv_cache.cc and attention*.cc.
#pragma once

#include "kv_cache.h"

namespace millrace::cpu::MILLRACE_ISA {

// Calls f(key, block, offset, count) for each run of keys [begin, end) that lie side by side in a block of the table. Slid-out blocks are left out.
template <class F>
MILLRACE_INLINE void forTableRuns(const KeySource& source, int32_t begin, int32_t end, F&& f) {
  const int32_t blockSize = source.cache->blockSize;
  for (int32_t key = begin; key < end;) {
    const int32_t offset = key % blockSize, count = smaller(end - key, blockSize - offset), block = source.blockTable[key / blockSize];
    if (block >= 0) f(key, block, offset, count);
    key += count;
  }
}

// The same for the keys that have slots of their own.
template <class F>
MILLRACE_INLINE void forAncestors(const KeySource& source, int32_t begin, int32_t end, F&& f) {
  for (int32_t key = larger(begin, source.visibleEnd); key < end; key++) {
    const int32_t slot = source.ancestorSlots[key - source.visibleEnd];
    f(key, slot / source.cache->blockSize, slot % source.cache->blockSize, 1);
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
