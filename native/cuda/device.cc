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

// Rows that temperature 0 decides alone.
bool isGreedy(const SamplingColumns& c) {
  for (int32_t row = 0; row < c.numRows; row++) {
    const bool penalised = c.historyStart[row + 1] > c.historyStart[row] && (c.repetitionPenalty[row] != 1.0f || c.presencePenalty[row] != 0.0f || c.frequencyPenalty[row] != 0.0f);
    if (c.temperature[row] != 0.0f || c.numLogprobs[row] >= 0 || c.biasStart[row + 1] > c.biasStart[row] || penalised) return false;
  }
  return true;
}

}  // namespace

Device::Device(const std::string& isa, int32_t numThreads)
    : properties_(openDevice(ordinalOf(isa))),
      ordinal_(ordinalOf(isa)),
      pool_(checkedThreads(numThreads)),
      sampler_(cpu::portable::samplerKernels(), pool_.numThreads()),
      partials_(static_cast<size_t>(kMostPartials) * sizeof(float), "attention") {}

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
  const int32_t id = program.logitsOutput(output, columns.numRows), vocabSize = program.plan().values[static_cast<size_t>(id)].width;
  const ConstRows logits = program.constRows(id);
  const size_t rows = static_cast<size_t>(columns.numRows);
  if (masks != nullptr || !isGreedy(columns) || rows == 0) {
    std::vector<float> copied(rows * static_cast<size_t>(vocabSize));
    stream_.downloadRows(copied.data(), logits.data, static_cast<size_t>(logits.stride) * sizeof(float), static_cast<size_t>(vocabSize) * sizeof(float), rows);
    stream_.synchronize();
    return sampleOnHost(copied.data(), vocabSize, columns, masks);
  }
  lastTokens_.clear();
  const size_t idBytes = rows * sizeof(int32_t);
  if (sampled_.size() < idBytes + rows) sampled_ = Buffer(2 * (idBytes + rows), "sampled tokens");
  greedy(logits, columns.numRows, vocabSize, reinterpret_cast<int32_t*>(sampled_.data()), sampled_.data() + idBytes, stream_);
  SampledRows result;
  result.tokenIds.resize(rows);
  result.corrupted.resize(rows);
  result.logprobs.assign(rows, std::numeric_limits<float>::quiet_NaN());
  result.mirostatMu.assign(rows, std::numeric_limits<float>::quiet_NaN());
  stream_.download(result.tokenIds.data(), sampled_.data(), idBytes);
  stream_.download(result.corrupted.data(), sampled_.data() + idBytes, rows);
  stream_.synchronize();
  lastTokens_ = result.tokenIds;
  return result;
}

SampledRows Device::sample(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  return sampleOnHost(logits, vocabSize, columns, masks);
}

SampledRows Device::sampleOnHost(const float* logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks) {
  checkMasks(masks, columns.numRows, vocabSize);
  lastTokens_.clear();
  SampledRows rows = sampler_.sample(cpu::ConstRows{logits, vocabSize}, vocabSize, columns, masks == nullptr ? nullptr : masks->data, pool_);
  lastTokens_ = rows.tokenIds;
  return rows;
}

}  // namespace millrace::cuda
