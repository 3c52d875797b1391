// Weights of a program: matrices packed for this instruction set's kernels, vectors as f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../common/mapped_file.h"
#include "../common/memory.h"
#include "../common/plan.h"
#include "kernels.h"

namespace millrace::cpu {

// A stored tensor that makes up some rows of a weight.
struct WeightPart {
  std::shared_ptr<MappedFile> file;  // or null: bytes in memory
  const uint8_t* bytes = nullptr;    // first byte of the tensor
  size_t offset = 0;                 // of the tensor in `file`
  size_t sizeBytes = 0;
  WeightFormat format = WeightFormat::f32;
  int32_t rows = 0;                  // elements, for a vector
  int32_t ropeHeadDim = 0;           // not 0: rows are stored with rotary pairs interleaved (src/weights/weight-source.ts)
  float shift = 0;                   // added to each element
};

class Weight {
 public:
  // Packs the parts, one under the other, on the pool. Pages of mapped files leave the process as they are packed.
  Weight(const PlanWeight& shape, const std::vector<WeightPart>& parts, const KernelTable& kernels, ThreadPool& pool);

  // A shape alone, to be asked about and never run.
  explicit Weight(const PlanWeight& shape) : shape_(shape) {}

  const PlanWeight& shape() const { return shape_; }
  const PackedMatrix& matrix() const { return matrix_; }                                       // rank 2
  const float* vector() const { return reinterpret_cast<const float*>(memory_.data()); }  // rank 1
  size_t sizeBytes() const { return memory_.size(); }

 private:
  PlanWeight shape_;
  Memory memory_;
  PackedMatrix matrix_{};
};

// Bytes of `elements` stored values, a whole number of blocks.
size_t storedBytes(WeightFormat format, size_t elements);

}  // namespace millrace::cpu
