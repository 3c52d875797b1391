// The sampler's host side: brings the columns over, launches, and reads back what was sampled.
#pragma once

#include "../common/sampling.h"
#include "../common/step.h"
#include "batch_upload.h"
#include "kernels.h"

namespace millrace::cuda {

// What a step in flight keeps of its sampling.
struct SamplerSlot {
  PinnedBuffer columns, results;
  int32_t numRows = 0, maxTop = 0;

  // The results, when the stream has come so far.
  SampledRows collect() const;
};

class Sampler {
 public:
  // Rows of a step at most: their ids always lie in the same place.
  static constexpr int32_t kMostRows = 1 << 18;

  explicit Sampler(int32_t numMultiprocessors) : numBlocks_(numMultiprocessors), ids_(kMostRows * sizeof(int32_t), "sampled tokens") {}

  // Room for rows of this vocabulary, so that no step asks for memory. Throws MEMORY_INSUFFICIENT.
  void reserve(int32_t vocabSize, int32_t maxRows);

  // Samples rows of logits [columns.numRows, vocabSize] of the device; ids stay on it, all results come to the slot with the stream.
  // masks: [numRows, ceil(vocabSize / 32)] or null. Throws BACKEND_STEP_FAILED for columns that contradict themselves.
  void launch(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks, SamplerSlot& slot, const Stream& stream);

  const int32_t* ids() const { return reinterpret_cast<const int32_t*>(ids_.data()); }

 private:
  const int32_t numBlocks_;
  BatchUpload upload_;
  Buffer ids_, scratch_, counts_, results_;
};

}  // namespace millrace::cuda
