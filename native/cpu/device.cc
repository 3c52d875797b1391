#include "device.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <thread>

#include "../common/error.h"
#include "cpu_features.h"
#include "executor.h"

namespace millrace::cpu {
namespace {

constexpr int32_t kMaxThreads = 1024;

int32_t checkedThreads(int32_t numThreads) {
  require(numThreads >= 1 && numThreads <= kMaxThreads, "CONFIG_INVALID", "The number of threads must be from 1 to 1024.");
  return numThreads;
}

double millisecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

Output copyOut(const StepEntry& entry, int32_t index) {
  const Plan& plan = entry.program->plan();
  require(index >= 0 && static_cast<size_t>(index) < plan.outputs.size(), "BACKEND_STEP_FAILED", "The program has no such output.");
  const int32_t id = plan.outputs[static_cast<size_t>(index)];
  const PlanValue& value = plan.values[static_cast<size_t>(id)];
  require(!value.isIds, "BACKEND_STEP_FAILED", "An output that is read must be f32.");
  const ConstRows rows = entry.program->constRows(id);
  const size_t count = static_cast<size_t>(value.perLogit ? entry.batch.numLogitRows : entry.batch.numTokens);
  const size_t width = static_cast<size_t>(value.width);
  Output output;
  output.length = count * width;
  output.data.reset(new (std::nothrow) float[std::max<size_t>(1, output.length)]);
  require(output.data != nullptr, "MEMORY_INSUFFICIENT", "There is no memory for the outputs of the step.");
  for (size_t r = 0; r < count; r++) std::memcpy(output.data.get() + r * width, rows.data + static_cast<int64_t>(r) * rows.stride, width * sizeof(float));
  return output;
}

}  // namespace

Device::Device(const std::string& isa, int32_t numThreads)
    : kernels_(kernelTableFor(isa)), pool_(checkedThreads(numThreads)), sampler_(samplerKernelsFor(kernels_), pool_.numThreads()) {}

ForwardResult Device::forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs) {
  const auto start = std::chrono::steady_clock::now();
  const ExecutionContext context{kernels_, pool_, counters_, plantedOrderFault_.load(), stopping_, lastTokens_};
  for (size_t i = 0; i < entries.size(); i++) checkEntry(entries, i, context);
  for (size_t i = 0; i < entries.size(); i++) runEntry(entries, i, context);
  ForwardResult result;
  result.forwardMs = millisecondsSince(start);
  for (const int32_t index : readOutputs) {
    require(!entries.empty(), "BACKEND_STEP_FAILED", "A step without entries has no outputs.");
    result.outputs.push_back(copyOut(entries.back(), index));
  }
  return result;
}

ConstRows Device::logitsOf(const Program& program, int32_t output, int32_t numRows, int32_t& vocabSize) const {
  const Plan& plan = program.plan();
  require(output >= 0 && static_cast<size_t>(output) < plan.outputs.size(), "BACKEND_STEP_FAILED", "The program has no such output.");
  const int32_t id = plan.outputs[static_cast<size_t>(output)];
  const PlanValue& value = plan.values[static_cast<size_t>(id)];
  require(value.perLogit && !value.isIds && numRows <= program.maxLogitRows(), "BACKEND_STEP_FAILED", "The output to sample is not one of logits.");
  vocabSize = value.width;
  return program.constRows(id);
}

SampledRows Device::sample(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const uint32_t* masks) {
  lastTokens_.clear();
  SampledRows rows = sampler_.sample(logits, vocabSize, columns, masks, pool_);
  lastTokens_ = rows.tokenIds;
  return rows;
}

}  // namespace millrace::cpu
