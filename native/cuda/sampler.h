// The sampler's host side: brings the columns over, launches, and reads back what was sampled.
#pragma once

#include "../common/sampling.h"
#include "../common/step.h"
#include "batch_upload.h"
#include "kernels.h"

namespace millrace::cuda {

class Sampler {
 public:
  explicit Sampler(int32_t numMultiprocessors) : numBlocks_(numMultiprocessors) {}

  // Room for rows of this vocabulary, so that no step asks for memory. Throws MEMORY_INSUFFICIENT.
  void reserve(int32_t vocabSize, int32_t maxRows);

  // Samples rows of logits [columns.numRows, vocabSize] of the device; the results come with the stream. masks: [numRows, ceil(vocabSize / 32)] or null.
  // Throws BACKEND_STEP_FAILED for columns that contradict themselves.
  void launch(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks, const Stream& stream);
  // The results, when the stream has come so far.
  SampledRows collect() const;

 private:
  const int32_t numBlocks_;
  int32_t numRows_ = 0, maxTop_ = 0;
  BatchUpload upload_;
  Buffer scratch_, results_;
  PinnedBuffer host_;
};

}  // namespace millrace::cuda
