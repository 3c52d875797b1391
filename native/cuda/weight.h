// Weights of a program in the memory of the device: matrices as linear.cu wants them, vectors as f32.
#pragma once

#include <memory>
#include <vector>

#include "../common/plan.h"
#include "../common/weight_part.h"
#include "../cpu/kernels.h"
#include "kernels.h"
#include "runtime.h"

namespace millrace::cuda {

class Weight {
 public:
  // Packs the parts in memory of the host, on the pool, and uploads them. Throws WEIGHTS_FORMAT_UNSUPPORTED for formats without a kernel.
  Weight(const PlanWeight& shape, const std::vector<WeightPart>& parts, cpu::ThreadPool& pool, const Stream& stream);
  // A shape alone, to be asked about and never run.
  explicit Weight(const PlanWeight& shape) : shape_(shape) {}

  const PlanWeight& shape() const { return shape_; }
  Matrix matrix() const { return Matrix{static_cast<WeightFormat>(shape_.format), shape_.rows, shape_.columns, memory_.data()}; }  // rank 2
  const float* vector() const { return reinterpret_cast<const float*>(memory_.data()); }                                        // rank 1
  size_t sizeBytes() const { return memory_.size(); }

 private:
  PlanWeight shape_;
  Buffer memory_;
};

}  // namespace millrace::cuda
