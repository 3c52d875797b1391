#include "sampler.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "../common/error.h"

namespace millrace::cuda {
namespace {

// Rows that temperature 0 decides alone.
bool isGreedy(const SamplingColumns& c, const Span<uint32_t>* masks) {
  if (masks != nullptr) return false;
  for (int32_t row = 0; row < c.numRows; row++) {
    const bool penalised = c.historyStart[row + 1] > c.historyStart[row] && (c.repetitionPenalty[row] != 1.0f || c.presencePenalty[row] != 0.0f || c.frequencyPenalty[row] != 0.0f);
    if (c.temperature[row] != 0.0f || c.numLogprobs[row] >= 0 || c.biasStart[row + 1] > c.biasStart[row] || penalised) return false;
  }
  return true;
}

// Results lie one behind the other: token ids (on the device: in a place of their own), states, log probabilities, mu, then ids and log probabilities of
// alternatives.
constexpr size_t kColumns = 4;

// Brings the columns over; those without elements point anywhere and are not read.
SamplingColumns uploadColumns(const SamplingColumns& c, BatchUpload& upload, PinnedBuffer& host, const Stream& stream, const Span<uint32_t>* masks, size_t maskWords, const uint32_t*& maskAt) {
  const int64_t n = c.numRows, history = n == 0 ? 0 : c.historyStart[n], bias = n == 0 ? 0 : c.biasStart[n], wanted = n == 0 ? 0 : c.wantedStart[n];
  upload.begin(host);
  const size_t floats[] = {upload.add(c.temperature, n), upload.add(c.topP, n), upload.add(c.minP, n), upload.add(c.repetitionPenalty, n), upload.add(c.presencePenalty, n),
                           upload.add(c.frequencyPenalty, n), upload.add(c.biasValues, bias), upload.add(c.shaping, c.shaping == nullptr ? 0 : n * kShapingWidth)};
  const size_t words[] = {upload.add(c.seed, 2 * n), upload.add(c.choice, n), upload.add(c.position, n), masks == nullptr ? 0 : upload.add(masks->data, static_cast<int64_t>(maskWords))};
  const size_t ints[] = {upload.add(c.topK, n), upload.add(c.numLogprobs, n), upload.add(c.historyIds, history), upload.add(c.historyStart, n + 1), upload.add(c.historyPrompt, n),
                         upload.add(c.biasIds, bias), upload.add(c.biasStart, n + 1), upload.add(c.wantedIds, wanted), upload.add(c.wantedStart, n + 1)};
  upload.send(stream);
  SamplingColumns d = c;
  const float** toFloats[] = {&d.temperature, &d.topP, &d.minP, &d.repetitionPenalty, &d.presencePenalty, &d.frequencyPenalty, &d.biasValues};
  for (size_t i = 0; i < std::size(toFloats); i++) *toFloats[i] = upload.at<float>(floats[i]);
  d.shaping = c.shaping == nullptr ? nullptr : upload.at<float>(floats[7]);
  d.seed = upload.at<uint32_t>(words[0]);
  d.choice = upload.at<uint32_t>(words[1]);
  d.position = upload.at<uint32_t>(words[2]);
  maskAt = masks == nullptr ? nullptr : upload.at<uint32_t>(words[3]);
  const int32_t** toInts[] = {&d.topK, &d.numLogprobs, &d.historyIds, &d.historyStart, &d.historyPrompt, &d.biasIds, &d.biasStart, &d.wantedIds, &d.wantedStart};
  for (size_t i = 0; i < std::size(toInts); i++) *toInts[i] = upload.at(ints[i]);
  return d;
}

}  // namespace

void Sampler::reserve(int32_t vocabSize, int32_t maxRows) {
  const size_t blocks = static_cast<size_t>(std::min(maxRows, numBlocks_));
  const size_t bytes = static_cast<size_t>(samplerScratchFloats(vocabSize)) * blocks * sizeof(float), counts = static_cast<size_t>(vocabSize) * blocks * sizeof(int32_t);
  if (scratch_.size() < bytes) scratch_ = Buffer(bytes, "the sampler");
  if (counts_.size() < counts) counts_ = Buffer(counts, "the sampler");
}

void Sampler::launch(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const Span<uint32_t>* masks, SamplerSlot& slot, const Stream& stream) {
  checkSampling(columns);
  checkMasks(masks, columns.numRows, vocabSize);
  require(columns.numRows <= kMostRows, "BACKEND_STEP_FAILED", "A step samples more rows than the GPU keeps.");
  const size_t rows = static_cast<size_t>(columns.numRows), idBytes = rows * sizeof(int32_t);
  const bool greedyRows = isGreedy(columns, masks);
  slot.numRows = columns.numRows;
  slot.maxTop = greedyRows ? 0 : maxTopLogprobs(columns);
  const size_t bytes = rows * (kColumns + 2 * static_cast<size_t>(slot.maxTop)) * sizeof(float);
  if (results_.size() < bytes) results_ = Buffer(2 * bytes, "sampled tokens");
  if (slot.results.size() < bytes) slot.results = PinnedBuffer(2 * bytes);
  if (rows == 0) return;
  int32_t* ids = reinterpret_cast<int32_t*>(ids_.data());
  int32_t* rest = reinterpret_cast<int32_t*>(results_.data());
  if (greedyRows) {
    greedy(logits, columns.numRows, vocabSize, ids, rest, stream);
    float* nothing = reinterpret_cast<float*>(slot.results.data()) + 2 * rows;
    std::fill_n(nothing, 2 * rows, std::numeric_limits<float>::quiet_NaN());
    stream.download(slot.results.data(), ids, idBytes);
    stream.download(slot.results.data() + idBytes, rest, idBytes);
    return;
  }
  reserve(vocabSize, columns.numRows);
  SamplerArgs args;
  args.logits = logits;
  args.vocabSize = vocabSize;
  args.maxTop = slot.maxTop;
  args.columns = uploadColumns(columns, upload_, slot.columns, stream, masks, rows * ((static_cast<size_t>(vocabSize) + 31) / 32), args.masks);
  args.tokenIds = ids;
  args.states = rest;
  args.logprobs = reinterpret_cast<float*>(rest + rows);
  args.mirostatMu = reinterpret_cast<float*>(rest + 2 * rows);
  args.topTokenIds = rest + 3 * rows;
  args.topLogprobs = reinterpret_cast<float*>(args.topTokenIds + rows * static_cast<size_t>(slot.maxTop));
  args.scratch = reinterpret_cast<float*>(scratch_.data());
  args.counts = reinterpret_cast<int32_t*>(counts_.data());
  sampleRows(args, numBlocks_, stream);
  stream.download(slot.results.data(), ids, idBytes);
  stream.download(slot.results.data() + idBytes, rest, bytes - idBytes);
}

SampledRows SamplerSlot::collect() const {
  const size_t rows = static_cast<size_t>(numRows), top = rows * static_cast<size_t>(maxTop);
  SampledRows result;
  const int32_t* ids = reinterpret_cast<const int32_t*>(results.data());
  const float* floats = reinterpret_cast<const float*>(results.data());
  result.maxTopLogprobs = maxTop;
  result.tokenIds.assign(ids, ids + rows);
  result.corrupted.assign(ids + rows, ids + 2 * rows);
  result.logprobs.assign(floats + 2 * rows, floats + 3 * rows);
  result.mirostatMu.assign(floats + 3 * rows, floats + 4 * rows);
  result.topTokenIds.assign(ids + 4 * rows, ids + 4 * rows + top);
  result.topLogprobs.assign(floats + 4 * rows + top, floats + 4 * rows + 2 * top);
  return result;
}

}  // namespace millrace::cuda
