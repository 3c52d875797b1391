// A plan bound to weights: everything that is known before a step, checked once, so that a step only runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../common/memory.h"
#include "../common/step.h"
#include "kernels.h"
#include "weight.h"

namespace millrace::cpu {

class Program final : public ProgramShape {
 public:
  // Throws PLAN_INVALID for what no plan of ours says, BACKEND_OP_UNSUPPORTED listing every node that has no kernel here.
  Program(Plan plan, std::vector<std::shared_ptr<Weight>> weights, const KernelTable& kernels, int32_t maxTokens, int32_t maxLogitRows, int numThreads);

  size_t arenaBytes() const { return arena_.size() + linearScratch_.size() + attentionScratch_.size() + expertTileScratch_.size(); }
  const Weight* weight(int32_t id) const { return id < 0 ? nullptr : weights_[static_cast<size_t>(id)].get(); }

  // Rows of a value, a view's inside its owner's.
  Rows rows(int32_t value) const;
  ConstRows constRows(int32_t value) const;
  // Token ids of the step, maxTokens of them: apart from the arena, where no kernel can write over them.
  int32_t* tokenIds() const { return reinterpret_cast<int32_t*>(tokenIds_.data()); }
  uint8_t* linearScratch() const { return linearScratch_.data(); }
  uint8_t* expertTileScratch() const { return expertTileScratch_.data(); }
  uint8_t* attentionScratch() const { return attentionScratch_.data(); }

  // The matrix of the linear that comes after this node, of the first one after the last; null where what is read next hangs on the step.
  const PackedMatrix* nextLinear(const PlanNode& node) const { return nextLinear_[static_cast<size_t>(&node - plan_.nodes.data())]; }

  // Name of the kernel that runs each node.
  std::vector<std::string> kernelNames() const;

 private:
  void checkSupport() const;
  void allocateScratch(int numThreads);
  void orderLinears();

  std::vector<std::shared_ptr<Weight>> weights_;
  const KernelTable& kernels_;
  std::vector<const PackedMatrix*> nextLinear_;  // of each node
  Memory arena_, tokenIds_, linearScratch_, attentionScratch_, expertTileScratch_;
};

}  // namespace millrace::cpu
