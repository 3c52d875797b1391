// What every sampler is given and gives, on any device.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace {

// Elements of a row of SamplingBatch.shaping (sampling_shape.h names them).
constexpr int kShapingWidth = 10;

// Columns of src/sampling/sampling-batch.ts. Pointers are the caller's, valid for numRows rows.
struct SamplingColumns {
  int32_t numRows = 0;
  const float *temperature, *topP, *minP, *repetitionPenalty, *presencePenalty, *frequencyPenalty;
  const int32_t* topK;
  const uint32_t *seed, *choice, *position;
  const int32_t* numLogprobs;
  const int32_t *historyIds, *historyStart, *historyPrompt;
  const int32_t *biasIds, *biasStart;
  const float* biasValues;
  const float* shaping = nullptr;  // [numRows, kShapingWidth] or null
  const int32_t *wantedIds, *wantedStart;
  // Elements of historyIds, biasIds (biasValues) and wantedIds: the starts are checked against them.
  int64_t historyLength, biasLength, wantedLength;
};

// Ranges and parameters that a sampler follows. Throws BACKEND_STEP_FAILED.
void checkSampling(const SamplingColumns& columns);
// Largest number of alternatives, those asked for by name included, that a row reports.
int32_t maxTopLogprobs(const SamplingColumns& columns);

struct SampledRows {
  std::vector<int32_t> tokenIds;
  std::vector<float> logprobs;
  std::vector<int32_t> topTokenIds;
  std::vector<float> topLogprobs;
  int32_t maxTopLogprobs = 0;
  std::vector<uint8_t> corrupted;  // 0 fine, 1 a NaN among the logits, 2 nothing allowed
  std::vector<float> mirostatMu;   // NaN where mirostat is off
  double deviceMs = -1;            // time on a device that keeps its own, or -1
};

}  // namespace millrace
