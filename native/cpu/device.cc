#include "device.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

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
  const int32_t id = entry.program->output(index);
  const PlanValue& value = entry.program->plan().values[static_cast<size_t>(id)];
  require(!value.isIds, "BACKEND_STEP_FAILED", "An output that is read must be f32.");
  const ConstRows rows = static_cast<const Program&>(*entry.program).constRows(id);
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

Limits Device::measureLimits(size_t regionBytes, int32_t numRegions) {
  return cpu::measureLimits(limitKernelsFor(kernels_), pool_, regionBytes, numRegions);
}

Device::Device(const std::string& isa, int32_t numThreads)
    : kernels_(kernelTableFor(isa)), pool_(checkedThreads(numThreads)), sampler_(samplerKernelsFor(kernels_), pool_.numThreads()) {}

ForwardResult Device::forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs) {
  const auto start = std::chrono::steady_clock::now();
  const ExecutionContext context{kernels_, pool_, counters_, plantedOrderFault_.load(), stopping_, lastTokens_};
  for (size_t i = 0; i < entries.size(); i++) checkEntry(entries, i, lastTokens_.size());
  for (size_t i = 0; i < entries.size(); i++) runEntry(entries, i, context);
  ForwardResult result;
  result.forwardMs = millisecondsSince(start);
  for (const int32_t index : readOutputs) {
    require(!entries.empty(), "BACKEND_STEP_FAILED", "A step without entries has no outputs.");
    result.outputs.push_back(copyOut(entries.back(), index));
  }
  return result;
}

std::shared_ptr<Weight> Device::makeWeight(const PlanWeight& shape, const std::vector<WeightPart>& parts, bool mapped) {
  return std::make_shared<Weight>(shape, parts, kernels_, pool_, mapped);
}

std::shared_ptr<Program> Device::makeProgram(Plan plan, std::vector<std::shared_ptr<Weight>> weights, int32_t maxTokens, int32_t maxLogitRows) const {
  return std::make_shared<Program>(std::move(plan), std::move(weights), kernels_, maxTokens, maxLogitRows, pool_.numThreads());
}

ProgramDescription Device::describe(Plan plan, int32_t maxTokens, int32_t maxLogitRows) const {
  std::vector<std::shared_ptr<Weight>> weights;
  for (const PlanWeight& shape : plan.weights) weights.push_back(std::make_shared<Weight>(shape));
  const Program program(std::move(plan), std::move(weights), kernels_, maxTokens, maxLogitRows, pool_.numThreads());
  return {program.arenaBytes(), program.kernelNames()};
}

std::shared_ptr<Cache> Device::makeCache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype) const {
  return std::make_shared<Cache>(groups, blockSize, dtype, kernels_);
}

void Device::readBlocks(const Cache& cache, const std::vector<int32_t>& blocks, uint8_t* bytes) const {
  for (size_t i = 0; i < blocks.size(); i += 2) {
    cache.readBlock(blocks[i], blocks[i + 1], bytes);
    bytes += cache.blockBytes(blocks[i]);
  }
}

void Device::writeBlocks(const Cache& cache, const std::vector<int32_t>& blocks, const uint8_t* bytes) const {
  for (size_t i = 0; i < blocks.size(); i += 2) {
    cache.writeBlock(blocks[i], blocks[i + 1], bytes);
    bytes += cache.blockBytes(blocks[i]);
  }
}

SampledRows Device::sample(const Program& program, int32_t output, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  const int32_t id = program.logitsOutput(output, columns.numRows);
  return sampleRows(program.constRows(id), program.plan().values[static_cast<size_t>(id)].width, columns, masks);
}

SampledRows Device::sample(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  return sampleRows(ConstRows{logits, vocabSize}, vocabSize, columns, masks);
}

SampledRows Device::sampleRows(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  checkMasks(masks, columns.numRows, vocabSize);
  lastTokens_.clear();
  SampledRows rows = sampler_.sample(logits, vocabSize, columns, masks == nullptr ? nullptr : masks->data, pool_);
  lastTokens_ = rows.tokenIds;
  return rows;
}

}  // namespace millrace::cpu
