// Weights of a program: matrices packed for this instruction set's kernels, vectors as f32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../common/memory.h"
#include "../common/plan.h"
#include "../common/weight_part.h"
#include "kernels.h"

namespace millrace::cpu {

class Weight {
 public:
  // Packs the parts, one under the other, on the pool; those of one matrix of several are whole parts. Pages of mapped files leave the process as they are packed.
  // `mapped`: matrices of rank 3 that lie in files as the plan wants them stay there.
  Weight(const PlanWeight& shape, const std::vector<WeightPart>& parts, const KernelTable& kernels, ThreadPool& pool, bool mapped = false);

  // A shape alone, to be asked about and never run.
  explicit Weight(const PlanWeight& shape) : shape_(shape) {}

  const PlanWeight& shape() const { return shape_; }
  const PackedMatrix& matrix() const { return matrices_[0]; }                                  // rank 2
  bool hasMatrix() const { return !matrices_.empty(); }
  const PackedMatrix* matrices() const { return matrices_.data(); }                           // rank 3: shape().count of them
  const float* vector() const { return reinterpret_cast<const float*>(memory_.data()); }  // rank 1
  // Where matrices stay in files: runsPerMatrix() runs of rows for each; else null.
  const StoredRows* stored() const { return stored_.empty() ? nullptr : stored_.data(); }
  int32_t runsPerMatrix() const { return stored_.empty() ? 0 : static_cast<int32_t>(stored_.size() / matrices_.size()); }
  size_t sizeBytes() const { return memory_.size(); }  // in memory of the process' own

 private:
  PlanWeight shape_;
  Memory memory_;
  bool mapRows(const std::vector<WeightPart>& parts);
  std::vector<PackedMatrix> matrices_;
  std::vector<StoredRows> stored_;
  std::vector<std::shared_ptr<MappedFile>> files_;
};

// Bytes of `elements` stored values, a whole number of blocks.
size_t storedBytes(WeightFormat format, size_t elements);

}  // namespace millrace::cpu
