#pragma once

#include <cstdint>

namespace millrace {

// How often each row class ran, so that tests can prove which path they crossed. Classes: 1, 2-8, 9-64, > 64 rows.
struct Counters {
  uint64_t linearRowClass[4] = {};
  uint64_t linearSegments = 0;    // segments of K added, per linear call
  uint64_t attentionSplits = 0;   // KV splits merged, per query and head
};

}  // namespace millrace
