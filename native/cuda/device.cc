#include "device.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <new>
#include <utility>

#include "../common/error.h"

namespace millrace::cuda {
namespace {

int32_t ordinalOf(const std::string& isa) {
  if (isa.empty()) return 0;
  require(isa.size() <= 3 && std::all_of(isa.begin(), isa.end(), [](char c) { return c >= '0' && c <= '9'; }), "CONFIG_INVALID", "A GPU is named by its number.");
  return std::stoi(isa);
}

int32_t checkedThreads(int32_t numThreads) {
  require(numThreads >= 1 && numThreads <= 1024, "CONFIG_INVALID", "The number of threads must be from 1 to 1024.");
  return numThreads;
}

Output newOutput(size_t length) {
  Output output;
  output.length = length;
  output.data.reset(new (std::nothrow) float[std::max<size_t>(1, length)]);
  require(output.data != nullptr, "MEMORY_INSUFFICIENT", "There is no memory for the outputs of the step.");
  return output;
}

}  // namespace

Device::Device(const std::string& isa, int32_t numThreads)
    : properties_(openDevice(ordinalOf(isa))),
      ordinal_(ordinalOf(isa)),
      pool_(checkedThreads(numThreads)),
      partials_(static_cast<size_t>(kMostPartials) * sizeof(float), "attention"),
      sampler_(properties_.numMultiprocessors) {}

std::shared_ptr<Weight> Device::makeWeight(const PlanWeight& shape, const std::vector<WeightPart>& parts, bool mapped) {
  require(!mapped, "CONFIG_INVALID", "Weights that stay in their file are for the CPU.");
  useDevice(ordinal_);
  return std::make_shared<Weight>(shape, parts, pool_, stream_);
}

std::shared_ptr<Program> Device::makeProgram(Plan plan, std::vector<std::shared_ptr<Weight>> weights, int32_t maxTokens, int32_t maxLogitRows) const {
  useDevice(ordinal_);
  return std::make_shared<Program>(std::move(plan), std::move(weights), maxTokens, maxLogitRows, stream_, false);
}

ProgramDescription Device::describe(Plan plan, int32_t maxTokens, int32_t maxLogitRows) const {
  std::vector<std::shared_ptr<Weight>> weights;
  for (const PlanWeight& shape : plan.weights) weights.push_back(std::make_shared<Weight>(shape));
  const Program program(std::move(plan), std::move(weights), maxTokens, maxLogitRows, stream_, true);
  return {program.arenaBytes(), program.kernelNames()};
}

std::shared_ptr<Cache> Device::makeCache(const std::vector<CacheGroupSpec>& groups, int32_t blockSize, KvDtype dtype) const {
  useDevice(ordinal_);
  return std::make_shared<Cache>(groups, blockSize, dtype);
}

void Device::readBlocks(const Cache& cache, const std::vector<int32_t>& blocks, uint8_t* bytes) const {
  useDevice(ordinal_);
  for (size_t i = 0; i < blocks.size(); i += 2) {
    cache.readBlock(blocks[i], blocks[i + 1], bytes, stream_);
    bytes += cache.blockBytes(blocks[i]);
  }
  stream_.synchronize();
}

void Device::writeBlocks(const Cache& cache, const std::vector<int32_t>& blocks, const uint8_t* bytes) const {
  useDevice(ordinal_);
  for (size_t i = 0; i < blocks.size(); i += 2) {
    cache.writeBlock(blocks[i], blocks[i + 1], bytes, stream_);
    bytes += cache.blockBytes(blocks[i]);
  }
  stream_.synchronize();
}

ForwardResult Device::forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs) {
  useDevice(ordinal_);
  const auto start = std::chrono::steady_clock::now();
  const ExecutionContext context{stream_, upload_, reinterpret_cast<float*>(partials_.data()), counters_, stopping_, lastTokens_};
  for (size_t i = 0; i < entries.size(); i++) checkEntry(entries, i, lastTokens_.size());
  for (size_t i = 0; i < entries.size(); i++) {
    if (i > 0) stream_.synchronize();  // the upload's memory is used again
    runEntry(entries, i, context);
  }
  ForwardResult result;
  for (const int32_t index : readOutputs) {
    require(!entries.empty(), "BACKEND_STEP_FAILED", "A step without entries has no outputs.");
    const StepEntry& entry = entries.back();
    const int32_t id = entry.program->output(index);
    const PlanValue& value = entry.program->plan().values[static_cast<size_t>(id)];
    require(!value.isIds, "BACKEND_STEP_FAILED", "An output that is read must be f32.");
    const size_t count = static_cast<size_t>(value.perLogit ? entry.batch.numLogitRows : entry.batch.numTokens), width = static_cast<size_t>(value.width);
    result.outputs.push_back(newOutput(count * width));
    const ConstRows rows = static_cast<const Program&>(*entry.program).constRows(id);
    stream_.downloadRows(result.outputs.back().data.get(), rows.data, static_cast<size_t>(rows.stride) * sizeof(float), width * sizeof(float), count);
  }
  stream_.synchronize();
  result.forwardMs = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return result;
}

SampledRows Device::sample(const Program& program, int32_t output, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  useDevice(ordinal_);
  const int32_t id = program.logitsOutput(output, columns.numRows);
  return sampleRows(program.constRows(id), program.plan().values[static_cast<size_t>(id)].width, columns, masks);
}

SampledRows Device::sample(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  useDevice(ordinal_);
  const size_t bytes = static_cast<size_t>(columns.numRows) * static_cast<size_t>(vocabSize) * sizeof(float);
  if (hostLogits_.size() < bytes) hostLogits_ = Buffer(bytes, "logits of the host");
  if (bytes > 0) stream_.upload(hostLogits_.data(), logits, bytes);
  return sampleRows(ConstRows{reinterpret_cast<const float*>(hostLogits_.data()), vocabSize}, vocabSize, columns, masks);
}

SampledRows Device::sampleRows(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  lastTokens_.clear();
  sampler_.launch(logits, vocabSize, columns, masks, stream_);
  stream_.synchronize();
  SampledRows rows = sampler_.collect();
  lastTokens_ = rows.tokenIds;
  return rows;
}

}  // namespace millrace::cuda
