#include "sampler.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "../common/error.h"
#include "../common/philox.h"
#include "../common/sampling_math.h"
#include "sampler_shape.h"

namespace millrace::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Shape {
  float temperature, topP, minP;
  int32_t topK;
};

// A word that falls as the number rises, over the id: sorting ascending gives logit descending, ties to the lower id. -0 and 0 are one number.
uint64_t descendingKey(float logit, int32_t id) {
  const float settled = logit + 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &settled, sizeof bits);
  const uint32_t word = (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
  return (uint64_t{word} << 32) | static_cast<uint32_t>(id);
}

constexpr int32_t kFew = 256;
constexpr int64_t kManyKeys = 4096;

// Sorts keys that come in the order of their ids: stable passes over the upper word, 11 bits each, leave equal logits in that order.
void sortByRadix(std::vector<uint64_t>& keys, std::vector<uint64_t>& spare) {
  constexpr int kBits = 11, kBuckets = 1 << kBits;
  spare.resize(keys.size());
  for (int shift = 32; shift < 64; shift += kBits) {
    uint32_t counts[kBuckets] = {};
    for (const uint64_t key : keys) counts[(key >> shift) & (kBuckets - 1)]++;
    uint32_t begin = 0;
    for (uint32_t& count : counts) {
      const uint32_t size = count;
      count = begin;
      begin += size;
    }
    for (const uint64_t key : keys) spare[counts[(key >> shift) & (kBuckets - 1)]++] = key;
    keys.swap(spare);
  }
}

}  // namespace

// One row on one worker. Steps and their order are those of sampler.ts; draw.ts and logprobs.ts name the rest.
class RowSampler {
 public:
  RowSampler(const SamplerKernels& kernels, Sampler::RowScratch& scratch, int32_t vocabSize) : kernels_(kernels), scratch_(scratch), n_(vocabSize) {}

  void sample(int32_t row, const float* raw, const SamplingColumns& columns, const uint32_t* masks, SampledRows& result) {
    logits_ = raw;
    mask_ = masks == nullptr ? nullptr : restricting(masks + int64_t{row} * ((n_ + 31) / 32));
    bool infinite = false;
    float allowed = 0;
    float maximum = mask_ == nullptr ? kernels_.maximum(raw, n_) : kernels_.maxima(raw, mask_, n_, &allowed);
    maximum = settled(maximum, nullptr, infinite);
    if ((result.corrupted[row] = stateOf(maximum)) != 0) return;
    const int32_t numLogprobs = columns.numLogprobs[row];
    const float rawMaximum = maximum;
    float logSum = 0;
    if (numLogprobs >= 0) logSum = logSumOf(maximum);
    if (numLogprobs > 0) reportAlternatives(row, numLogprobs, maximum, logSum, result);
    if (numLogprobs >= 0) reportWanted(row, columns, maximum, logSum, result);
    const bool changed = process(row, columns);
    if (changed || mask_ != nullptr) {
      bool unused = false;
      if (mask_ == nullptr) allowed = kernels_.maximum(logits_, n_);
      else if (changed || infinite) kernels_.maxima(logits_, mask_, n_, &allowed);
      maximum = settled(allowed, mask_, unused);
      if ((result.corrupted[row] = stateOf(maximum)) != 0) return;
    }
    const int32_t token = choose(row, columns, maximum, result.mirostatMu[row]);
    result.tokenIds[row] = token;
    if (numLogprobs < 0) return;
    const float logit = !infinite ? raw[token] : raw[token] == kInfinity ? 0.0f : -kInfinity;
    result.logprobs[row] = (logit - rawMaximum) - logSum;
  }

 private:
  static uint8_t stateOf(float maximum) { return std::isnan(maximum) ? 1 : maximum == -kInfinity ? 2 : 0; }

  // Makes logits_ a copy that may be changed.
  float* own() {
    scratch_.logits.resize(static_cast<size_t>(n_));
    if (logits_ != scratch_.logits.data()) std::memcpy(scratch_.logits.data(), logits_, sizeof(float) * static_cast<size_t>(n_));
    logits_ = scratch_.logits.data();
    return scratch_.logits.data();
  }

  // The mask, or null where it allows everything.
  const uint32_t* restricting(const uint32_t* mask) const {
    uint32_t all = 0xffffffffu;
    for (int32_t word = 0; word < n_ / 32; word++) all &= mask[word];
    const uint32_t rest = (1u << (n_ % 32)) - 1;
    return all == 0xffffffffu && (rest == 0 || (mask[n_ / 32] & rest) == rest) ? nullptr : mask;
  }

  // The largest logit that `mask` allows as it counts: of several zeros the first; where it is +Infinity, all are replaced, and it is 0.
  float settled(float maximum, const uint32_t* mask, bool& infinite) {
    if (maximum == 0.0f) return logits_[kernels_.firstEqual(logits_, mask, n_, 0.0f)];
    if (maximum != kInfinity) return maximum;
    infinite = true;
    float* logits = own();
    for (int32_t id = 0; id < n_; id++) logits[id] = logits[id] == kInfinity ? 0.0f : -kInfinity;
    return 0.0f;
  }

  float* weights() {
    scratch_.weights.resize(static_cast<size_t>(n_));
    return scratch_.weights.data();
  }

  float logSumOf(float maximum) {
    return samplingMath::logF32(kernels_.weights(logits_, nullptr, n_, maximum, 1.0f, 0.0f, weights(), nullptr));
  }

  void reportAlternatives(int32_t row, int32_t k, float maximum, float logSum, SampledRows& result) {
    int32_t* ids = result.topTokenIds.data() + int64_t{row} * result.maxTopLogprobs;
    float* values = result.topLogprobs.data() + int64_t{row} * result.maxTopLogprobs;
    int32_t count = 0;
    const float least = reachedBy(k);
    const int32_t* among = nullptr;
    int32_t numAmong = n_;
    if (least > -kInfinity) {
      scratch_.ids.resize(static_cast<size_t>(n_));
      numAmong = kernels_.gather(logits_, nullptr, n_, least, scratch_.ids.data());
      among = scratch_.ids.data();
    }
    for (int32_t i = 0; i < numAmong; i++) {
      const int32_t id = among == nullptr ? i : among[i];
      if (count == k && !(logits_[id] > logits_[ids[count - 1]])) continue;
      int32_t place = count < k ? count++ : k - 1;
      for (; place > 0 && logits_[id] > logits_[ids[place - 1]]; place--) ids[place] = ids[place - 1];
      ids[place] = id;
    }
    for (int32_t i = 0; i < count; i++) values[i] = (logits_[ids[i]] - maximum) - logSum;
  }

  // A logit that at least k of them reach, or -Infinity: the k-th largest of what parts of the vocabulary have as their largest.
  float reachedBy(int32_t k) {
    const size_t numParts = static_cast<size_t>((n_ + kMaximaSpan - 1) / kMaximaSpan) * kMaximaLanes;
    if (k <= 0 || static_cast<size_t>(k) > numParts / 2) return -kInfinity;
    scratch_.maxima.resize(numParts);
    kernels_.partMaxima(logits_, n_, scratch_.maxima.data());
    const auto kth = scratch_.maxima.begin() + (k - 1);
    std::nth_element(scratch_.maxima.begin(), kth, scratch_.maxima.end(), std::greater<float>());
    return *kth;
  }

  // Behind the alternatives asked for, even where the vocabulary has fewer.
  void reportWanted(int32_t row, const SamplingColumns& c, float maximum, float logSum, SampledRows& result) {
    int64_t at = int64_t{row} * result.maxTopLogprobs + c.numLogprobs[row];
    for (int32_t i = c.wantedStart[row]; i < c.wantedStart[row + 1]; i++, at++) {
      const int32_t id = c.wantedIds[i];
      if (id < 0 || id >= n_) continue;
      result.topTokenIds[static_cast<size_t>(at)] = id;
      result.topLogprobs[static_cast<size_t>(at)] = (logits_[id] - maximum) - logSum;
    }
  }

  // Bias and penalties; the mask stays beside the logits. Returns whether they may have changed.
  bool process(int32_t row, const SamplingColumns& c) {
    const int32_t biasBegin = c.biasStart[row], biasEnd = c.biasStart[row + 1];
    const int32_t begin = c.historyStart[row], end = c.historyStart[row + 1];
    const bool penalised = end > begin && (c.repetitionPenalty[row] != 1.0f || c.presencePenalty[row] != 0.0f || c.frequencyPenalty[row] != 0.0f);
    if (biasEnd <= biasBegin && !penalised) return false;
    float* logits = own();
    for (int32_t i = biasBegin; i < biasEnd; i++) {
      const int32_t id = c.biasIds[i];
      if (id < 0 || id >= n_) continue;
      logits[id] = c.biasValues[i] == -kInfinity ? -kInfinity : logits[id] + c.biasValues[i];
    }
    if (penalised) penalise(row, c, logits);
    return true;
  }

  void penalise(int32_t row, const SamplingColumns& c, float* logits) {
    const int32_t begin = c.historyStart[row], end = c.historyStart[row + 1], outputBegin = begin + c.historyPrompt[row];
    if (scratch_.counts.size() < static_cast<size_t>(n_)) scratch_.counts.resize(static_cast<size_t>(n_), -1);
    int32_t* counts = scratch_.counts.data();
    for (int32_t i = begin; i < end; i++) {
      const int32_t id = c.historyIds[i];
      if (id < 0 || id >= n_) continue;
      if (counts[id] < 0) counts[id] = 0;
      if (i >= outputBegin) counts[id]++;
    }
    const float repetition = c.repetitionPenalty[row];
    for (int32_t i = begin; i < end; i++) {
      const int32_t id = c.historyIds[i];
      if (id < 0 || id >= n_ || counts[id] < 0) continue;
      float logit = logits[id];
      if (repetition != 1.0f) logit = logit > 0 ? logit / repetition : logit * repetition;
      if (counts[id] > 0) {
        logit = logit - static_cast<float>(counts[id]) * c.frequencyPenalty[row];
        logit = logit - c.presencePenalty[row];
      }
      logits[id] = logit;
      counts[id] = -1;
    }
  }

  // Puts the mask into the logits, for what looks at all of them.
  void applyMask() {
    if (mask_ == nullptr) return;
    scratch_.logits.resize(static_cast<size_t>(n_));
    kernels_.masked(logits_, mask_, n_, scratch_.logits.data());
    logits_ = scratch_.logits.data();
    mask_ = nullptr;
  }

  int32_t choose(int32_t row, const SamplingColumns& c, float maximum, float& mu) {
    if (c.temperature[row] == 0.0f) return kernels_.firstEqual(logits_, mask_, n_, maximum);
    const int32_t topK = c.topK[row] > 0 && c.topK[row] < n_ ? c.topK[row] : 0;
    Shaping shaping;
    if (c.shaping != nullptr) std::memcpy(&shaping, c.shaping + int64_t{row} * kShapingWidth, sizeof shaping);
    if (shaping.dynatempRange > 0 || shaping.topNSigma > 0) applyMask();
    const float temperature = dynamicTemperature(kernels_, logits_, n_, maximum, c.temperature[row], shaping, weights());
    if (temperature == 0.0f) return kernels_.firstEqual(logits_, mask_, n_, maximum);
    const Shape shape{temperature, c.topP[row], c.minP[row], topK};
    const auto uniform = [&](uint32_t draw) { return uniformAt(c.seed[2 * row], c.seed[2 * row + 1], c.choice[row], c.position[row], draw); };
    if (topK == 0 && shape.topP >= 1.0f && !shaping.needsOrder()) return drawInVocabularyOrder(shape, maximum, uniform(0));
    startOrder(maximum, topK);
    if (shaping.mirostatMode != 0) return drawByMirostat(temperature, shaping, maximum, uniform(0), mu);
    const bool isExcluding = shaping.xtcProbability > 0 && uniform(1) < shaping.xtcProbability;
    return drawInDescendingOrder(shape, shaping, isExcluding, maximum, uniform(0));
  }

  int32_t drawInVocabularyOrder(const Shape& shape, float maximum, float u) {
    float* weights = this->weights();
    const int32_t numBlocks = (n_ + samplingMath::kSumBlock - 1) / samplingMath::kSumBlock;
    scratch_.blockSums.resize(static_cast<size_t>(numBlocks));
    const float least = shape.minP > 0 ? shape.minP : 0.0f;
    const float target = u * kernels_.weights(logits_, mask_, n_, maximum, shape.temperature, least, weights, scratch_.blockSums.data());
    float sum = 0;
    int32_t block = 0;
    for (; block < numBlocks - 1 && sum + scratch_.blockSums[block] <= target; block++) sum = sum + scratch_.blockSums[block];
    const int32_t end = std::min(n_, (block + 1) * samplingMath::kSumBlock);
    int32_t token = block * samplingMath::kSumBlock;
    for (int32_t id = token; id < end; id++) {
      if (weights[id] > 0) token = id;
      sum = sum + weights[id];
      if (sum > target) break;
    }
    return token;
  }

  static float weightOf(float logit, float maximum, float temperature) { return samplingMath::expF32((logit - maximum) / temperature); }

  int32_t drawInDescendingOrder(const Shape& shape, const Shaping& shaping, bool isExcluding, float maximum, float u) {
    int32_t kept = 0;
    float total = 0, threshold = kInfinity;
    float* weights = this->weights();
    const float least = sigmaLimit(kernels_, logits_, n_, maximum, shaping.topNSigma, weights);
    if (shape.topK == 0 && shape.topP < 1.0f) {
      float sum = kernels_.weights(logits_, mask_, n_, maximum, shape.temperature, 0.0f, weights, nullptr);
      if (least > -kInfinity) {
        for (int32_t id = 0; id < n_; id++)
          if (logits_[id] < least) weights[id] = 0;
        sum = kernels_.sumBlocks(weights, n_);
      }
      threshold = shape.topP * sum;
    } else if (shape.topP < 1.0f) {
      float sum = 0;
      for (int32_t i = 0; i < shape.topK && has(i) && logits_[idAt(i)] >= least; i++) sum = sum + weightOf(logits_[idAt(i)], maximum, shape.temperature);
      threshold = shape.topP * sum;
    }
    while ((shape.topK == 0 || kept < shape.topK) && has(kept)) {
      const float weight = weightOf(logits_[idAt(kept)], maximum, shape.temperature);
      if (kept > 0 && (weight == 0.0f || weight < shape.minP || logits_[idAt(kept)] < least)) break;
      weights[kept++] = weight;
      total = total + weight;
      if (total >= threshold) break;
    }
    if (shaping.typicalP < 1.0f) {
      keepTypical(weights, kept, total, shaping.typicalP, scratch_.spare);
      total = sumInOrder(weights, kept);
    }
    if (isExcluding) {
      excludeTopChoices(weights, kept, total, shaping.xtcThreshold);
      total = sumInOrder(weights, kept);
    }
    return idAt(placeOf(weights, kept, u * total));
  }

  int32_t drawByMirostat(float temperature, const Shaping& shaping, float maximum, float u, float& mu) {
    float* weights = this->weights();
    const float all = kernels_.weights(logits_, mask_, n_, maximum, temperature, 0.0f, weights, nullptr);
    int32_t kept = 0;
    float total = 0;
    for (; has(kept); kept++) {
      const float weight = weightOf(logits_[idAt(kept)], maximum, temperature);
      if (kept > 0 && (weight == 0.0f || surprise(weight, all) > shaping.mirostatMu)) break;
      weights[kept] = weight;
      total = total + weight;
    }
    const int32_t place = placeOf(weights, kept, u * total);
    mu = nextMu(shaping, surprise(weights[place], total));
    return idAt(place);
  }

  // Ids in descending order, sorted only as far as they are asked for: keys [0, sorted_) are in place, the rest are not smaller. Keys hold the ids
  // down to `depth_` below the maximum; asking for more starts again deeper, which changes nothing above.
  void startOrder(float maximum, int32_t topK) {
    maximum_ = maximum;
    depth_ = 0.5f;
    sorted_ = 0;
    scratch_.keys.clear();
    least_ = mask_ == nullptr ? reachedBy(topK) : -kInfinity;
    if (least_ == -kInfinity) return;
    depth_ = std::max(depth_, maximum - least_);
    gather();
  }

  bool has(int32_t i) {
    while (static_cast<size_t>(i) >= scratch_.keys.size() && depth_ < kInfinity) gatherDeeper();
    const int32_t count = static_cast<int32_t>(scratch_.keys.size());
    if (count > 0 && std::min(i, count - 1) >= sorted_) sortFurther(std::min(i, count - 1));  // what was in place before gathering is so again
    return i < count;
  }

  int32_t idAt(int32_t i) const { return static_cast<int32_t>(scratch_.keys[static_cast<size_t>(i)] & 0xffffffffu); }

  void gatherDeeper() {
    depth_ = depth_ > 1000.0f ? kInfinity : depth_ * (depth_ < 8 ? 4 : 2);  // few of a vocabulary are near the best, and then suddenly most
    least_ = maximum_ - depth_;
    gather();
  }

  void gather() {
    scratch_.ids.resize(static_cast<size_t>(n_));
    const int32_t count = kernels_.gather(logits_, mask_, n_, least_, scratch_.ids.data());
    scratch_.keys.resize(static_cast<size_t>(count));
    for (int32_t i = 0; i < count; i++) scratch_.keys[static_cast<size_t>(i)] = descendingKey(logits_[scratch_.ids[static_cast<size_t>(i)]], scratch_.ids[static_cast<size_t>(i)]);
    sorted_ = 0;
  }

  // A few are picked out of many; asked for more, all are sorted at once.
  void sortFurther(int32_t i) {
    const int64_t count = static_cast<int64_t>(scratch_.keys.size());
    const auto keys = scratch_.keys.begin();
    if (i < kFew && count > kFew) {
      std::nth_element(keys, keys + kFew, scratch_.keys.end());
      std::sort(keys, keys + kFew);
      sorted_ = kFew;
    } else {
      if (count > kManyKeys) {
        if (sorted_ > 0) gather();  // back in the order of ids
        sortByRadix(scratch_.keys, scratch_.spare);
      } else {
        std::sort(keys, scratch_.keys.end());
      }
      sorted_ = static_cast<int32_t>(count);
    }
  }

  const SamplerKernels& kernels_;
  Sampler::RowScratch& scratch_;
  const int32_t n_;
  const float* logits_ = nullptr;
  const uint32_t* mask_ = nullptr;  // what may be chosen of them; null for all
  float maximum_ = 0, depth_ = 0, least_ = 0;
  int32_t sorted_ = 0;
};

SampledRows Sampler::sample(ConstRows logits, int32_t vocabSize, const SamplingColumns& columns, const uint32_t* masks, ThreadPool& pool) {
  checkSampling(columns);
  const size_t numRows = static_cast<size_t>(columns.numRows);
  SampledRows result;
  result.maxTopLogprobs = maxTopLogprobs(columns);
  const size_t numTop = numRows * static_cast<size_t>(result.maxTopLogprobs);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  result.tokenIds.assign(numRows, 0);
  result.logprobs.assign(numRows, nan);
  result.topTokenIds.assign(numTop, -1);
  result.topLogprobs.assign(numTop, nan);
  result.corrupted.assign(numRows, 0);
  result.mirostatMu.assign(numRows, nan);
  std::atomic<bool> failed{false};  // out of memory on a worker: tiles must not throw
  pool.parallel(columns.numRows, [&](int64_t row, int worker) {
    try {
      RowSampler sampler(kernels_, scratch_[static_cast<size_t>(worker)], vocabSize);
      sampler.sample(static_cast<int32_t>(row), logits.data + row * logits.stride, columns, masks, result);
    } catch (const std::exception&) {
      failed = true;
    }
  });
  require(!failed, "MEMORY_INSUFFICIENT", "There is no memory for the sampler.");
  return result;
}

}  // namespace millrace::cpu
