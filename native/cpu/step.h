// A step as the native side sees it: src/backends/backend.ts says what each field means. Pointers are the caller's, valid until the step is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache.h"
#include "program.h"
#include "sampler.h"

namespace millrace::cpu {

// A typed array: where it is and how many elements it has.
template <class T>
struct Span {
  const T* data = nullptr;
  int64_t length = 0;
};

struct ForwardBatch {
  int32_t numTokens = 0, numRows = 0, numLogitRows = 0, maxBlocks = 0, numCopies = 0;
  Span<int32_t> tokenIds, positions, rowStart, cacheIndex, visibleEnd, blockTables, slotMapping, logitTokens, copies;
  Span<int32_t> ancestorStart, ancestorSlots;  // null without drafts
};

struct StepEntry {
  std::shared_ptr<Program> program;
  std::shared_ptr<Cache> cache;  // or null
  ForwardBatch batch;
  // Where embeddings come from: memory of the host, or an output of an earlier entry.
  Span<float> hostEmbeddings;
  int32_t sourceEntry = -1, sourceOutput = -1;
};

// A value copied out whole, [rows, width].
struct Output {
  std::unique_ptr<float[]> data;
  size_t length = 0;
};

struct ForwardResult {
  std::vector<Output> outputs;
  double forwardMs = 0;
};

}  // namespace millrace::cpu
