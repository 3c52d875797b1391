#include "device.h"

#include <algorithm>
#include <cstring>
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
      sampler_(properties_.numMultiprocessors) {
  lastTokens_.ids = sampler_.ids();
}

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

ExecutionContext Device::context() {
  return ExecutionContext{stream_, reinterpret_cast<float*>(partials_.data()), counters_, replayedSteps_, stopping_, lastTokens_};
}

std::function<ForwardResult()> Device::forward(const std::vector<StepEntry>& entries, const std::vector<int32_t>& readOutputs) {
  useDevice(ordinal_);
  const ExecutionContext context = this->context();
  for (size_t i = 0; i < entries.size(); i++) checkEntry(entries, i, static_cast<size_t>(lastTokens_.numRows));
  const std::shared_ptr<ForwardSlot> slot = forwardSlots_.take();
  if (uploads_.size() < entries.size()) uploads_.resize(entries.size());
  if (slot->batches.size() < entries.size()) slot->batches.resize(entries.size());
  slot->begin.record(stream_);
  if (!replayStep(entries, slot->batches, context))
    for (size_t i = 0; i < entries.size(); i++) runEntry(entries, i, uploads_[i], slot->batches[i], context);
  slot->end.record(stream_);
  const auto result = std::make_shared<ForwardResult>();
  for (const int32_t index : readOutputs) {
    require(!entries.empty(), "BACKEND_STEP_FAILED", "A step without entries has no outputs.");
    const StepEntry& entry = entries.back();
    const int32_t id = entry.program->output(index);
    const PlanValue& value = entry.program->plan().values[static_cast<size_t>(id)];
    require(!value.isIds, "BACKEND_STEP_FAILED", "An output that is read must be f32.");
    const size_t count = static_cast<size_t>(value.perLogit ? entry.batch.numLogitRows : entry.batch.numTokens), width = static_cast<size_t>(value.width);
    result->outputs.push_back(newOutput(count * width));
    const ConstRows rows = static_cast<const Program&>(*entry.program).constRows(id);
    stream_.downloadRows(result->outputs.back().data.get(), rows.data, static_cast<size_t>(rows.stride) * sizeof(float), width * sizeof(float), count);
  }
  if (!readOutputs.empty()) stream_.synchronize();  // memory of the host that is not pinned is no place for copies to come
  return [slot, result, ordinal = ordinal_] {
    useDevice(ordinal);
    slot->end.synchronize();
    result->forwardMs = slot->end.millisecondsSince(slot->begin);
    return std::move(*result);
  };
}

int32_t Device::recordSteps(const std::shared_ptr<Program>& program, const std::shared_ptr<Cache>& cache, int32_t numTokens, int32_t maxContext) {
  useDevice(ordinal_);
  stream_.synchronize();
  program->reserveSampler(sampler_);
  return program->recordings().record(program, cache, numTokens, maxContext, context());
}

std::function<SampledRows()> Device::sample(const Program& program, int32_t output, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  useDevice(ordinal_);
  lastTokens_.numRows = 0;
  const int32_t id = program.logitsOutput(output, columns.numRows);
  return sampleRows(program.constRows(id), program.plan().values[static_cast<size_t>(id)].width, columns, masks, sampleSlots_.take());
}

std::function<SampledRows()> Device::sample(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  useDevice(ordinal_);
  lastTokens_.numRows = 0;
  std::shared_ptr<SampleSlot> slot = sampleSlots_.take();
  const size_t bytes = static_cast<size_t>(columns.numRows) * static_cast<size_t>(vocabSize) * sizeof(float);
  if (hostLogits_.size() < bytes) hostLogits_ = Buffer(bytes, "logits of the host");
  if (slot->logits.size() < bytes) slot->logits = PinnedBuffer(bytes);
  if (bytes > 0) {
    std::memcpy(slot->logits.data(), logits, bytes);
    stream_.upload(hostLogits_.data(), slot->logits.data(), bytes);
  }
  return sampleRows(ConstRows{reinterpret_cast<const float*>(hostLogits_.data()), vocabSize}, vocabSize, columns, masks, std::move(slot));
}

std::function<SampledRows()> Device::sampleRows(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks, std::shared_ptr<SampleSlot> slot) {
  slot->begin.record(stream_);
  sampler_.launch(logits, vocabSize, columns, masks, slot->sampling, stream_);
  slot->end.record(stream_);
  lastTokens_.numRows = columns.numRows;
  lastTokens_.vocabSize = vocabSize;
  return [slot, ordinal = ordinal_] {
    useDevice(ordinal);
    slot->end.synchronize();
    SampledRows rows = slot->sampling.collect();
    rows.deviceMs = slot->end.millisecondsSince(slot->begin);
    return rows;
  };
}

}  // namespace millrace::cuda
