// A plan bound to weights on the device: everything that is known before a step, checked once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../common/step.h"
#include "kernels.h"
#include "sampler.h"
#include "step_recordings.h"
#include "weight.h"

namespace millrace::cuda {

class Program final : public ProgramShape {
 public:
  // Throws PLAN_INVALID, BACKEND_OP_UNSUPPORTED listing every node that has no kernel here, MEMORY_INSUFFICIENT.
  // `describes`: nothing is allocated, and nothing may run.
  Program(Plan plan, std::vector<std::shared_ptr<Weight>> weights, int32_t maxTokens, int32_t maxLogitRows, const Stream& stream, bool describes);

  size_t arenaBytes() const { return arenaBytes_ + scratchBytes_; }
  const Weight* weight(int32_t id) const { return id < 0 ? nullptr : weights_[static_cast<size_t>(id)].get(); }
  Rows rows(int32_t value) const;
  ConstRows constRows(int32_t value) const;
  const float* constant(int32_t id) const { return reinterpret_cast<const float*>(constants_.data()) + constantStarts_[static_cast<size_t>(id)]; }
  uint8_t* linearScratch() const { return scratch_.data(); }
  std::vector<std::string> kernelNames() const;
  // Of its steps. They belong to the thread that runs them.
  StepRecordings& recordings() const { return recordings_; }
  // Room for the logits that it gives.
  void reserveSampler(Sampler& sampler) const;

 private:
  void checkSupport() const;
  void uploadConstants(const Stream& stream);

  std::vector<std::shared_ptr<Weight>> weights_;
  size_t arenaBytes_ = 0, scratchBytes_ = 0;
  Buffer arena_, scratch_, constants_;
  std::vector<int64_t> constantStarts_;
  mutable StepRecordings recordings_;
};

}  // namespace millrace::cuda
