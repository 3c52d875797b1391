// From the processed logits of a row to one token: operation for operation src/sampling/draw.ts and shaping.ts.
#pragma once

#include "sampler_row.h"

namespace millrace::cuda {

struct ByLogit {
  const float* logits;
  bool countsAll;  // -Infinity too
  MILLRACE_GPU bool operator()(int32_t id, uint64_t& key) const {
    key = descendingKey(logits[id], id);
    return countsAll || logits[id] > -INFINITY;
  }
};

// Nearest to the entropy first.
struct BySurprise {
  const float* weights;
  float logTotal, entropy;
  MILLRACE_GPU bool operator()(int32_t i, uint64_t& key) const {
    const float distance = fabsf((logTotal - logF32(weights[i])) - entropy);  // not negative: its bits rise with it
    key = (uint64_t{__float_as_uint(distance)} << 32) | static_cast<uint32_t>(i);
    return true;
  }
};

class RowDrawer : public SampledRow {
 public:
  using SampledRow::SampledRow;

 protected:
  MILLRACE_GPU int32_t choose(float& mu) {
    if (c_.temperature[row_] == 0.0f) return bestId_;
    Shaping shaping;
    if (c_.shaping != nullptr) {
      float* fields = reinterpret_cast<float*>(&shaping);
      for (int i = 0; i < kShapingWidth; i++) fields[i] = c_.shaping[int64_t{row_} * kShapingWidth + i];
    }
    temperature_ = dynamicTemperature(shaping);
    if (temperature_ == 0.0f) return bestId_;
    topK_ = c_.topK[row_] > 0 && c_.topK[row_] < n_ ? c_.topK[row_] : 0;
    if (topK_ == 0 && c_.topP[row_] >= 1.0f && !shaping.needsOrder()) return drawInVocabularyOrder();
    if (shaping.mirostatMode != 0) return drawByMirostat(shaping, mu);
    return drawInDescendingOrder(shaping);
  }

 private:
  MILLRACE_GPU float uniform(uint32_t draw) const { return uniformAt(c_.seed[2 * row_], c_.seed[2 * row_ + 1], c_.choice[row_], c_.position[row_], draw); }

  MILLRACE_GPU int32_t countFinite() {
    __syncthreads();
    if (threadIdx.x == 0) shared_.count = 0;
    __syncthreads();
    int32_t own = 0;
    for (int32_t id = first(); id < n_; id += kSamplerThreads) own += logits_[id] > -INFINITY ? 1 : 0;
    if (own > 0) atomicAdd(&shared_.count, own);
    __syncthreads();
    return shared_.count;
  }

  MILLRACE_GPU float dynamicTemperature(const Shaping& shaping) {
    const float temperature = c_.temperature[row_], maximum = maximum_;
    if (!(shaping.dynatempRange > 0)) return temperature;
    const int32_t count = countFinite();
    if (count < 2) return temperature;
    const float total = blockedSum([&](int32_t id) { return weightOf(logits_[id], maximum, 1.0f); });
    const float weighted = blockedSum([&](int32_t id) {
      const float weight = weightOf(logits_[id], maximum, 1.0f);
      return weight > 0 ? weight * (logits_[id] - maximum) : weight;
    });
    const float entropy = logF32(total) - weighted / total;
    const float ratio = entropy / logF32(static_cast<float>(count)), share = ratio < 1.0f ? ratio : 1.0f;
    const float power = share > 1e-30f ? expF32(shaping.dynatempExponent * logF32(share)) : 0.0f;
    const float lower = temperature - shaping.dynatempRange, least = lower > 0.0f ? lower : 0.0f;
    return least + ((temperature + shaping.dynatempRange) - least) * power;
  }

  // Logits below it are dropped.
  MILLRACE_GPU float sigmaLimit(float topNSigma) {
    if (!(topNSigma > 0)) return -INFINITY;
    const float count = static_cast<float>(countFinite()), maximum = maximum_;
    const float mean = blockedSum([&](int32_t id) { return logits_[id] > -INFINITY ? logits_[id] - maximum : 0.0f; }) / count;
    const float squares = blockedSum([&](int32_t id) {
      const float apart = logits_[id] > -INFINITY ? (logits_[id] - maximum) - mean : 0.0f;
      return apart * apart;
    });
    return maximum - topNSigma * sqrtf(squares / count);
  }

  MILLRACE_GPU int32_t drawInVocabularyOrder() {
    const float least = c_.minP[row_] > 0 ? c_.minP[row_] : 0.0f;
    const auto weightAt = [&](int32_t id) {
      const float weight = weightOf(logits_[id], maximum_, temperature_);
      return weight < least ? 0.0f : weight;
    };
    const float target = uniform(0) * blockedSum(weightAt);
    const int32_t numBlocks = (n_ + kSumBlock - 1) / kSumBlock;
    if (threadIdx.x == 0) {
      float sum = 0;
      int32_t block = 0;
      for (; block < numBlocks - 1 && sum + blockSums_[block] <= target; block++) sum = sum + blockSums_[block];
      shared_.place = block;
      shared_.sum = sum;
    }
    __syncthreads();
    const int32_t begin = shared_.place * kSumBlock, end = begin + kSumBlock < n_ ? begin + kSumBlock : n_;
    for (int32_t id = begin + first(); id < end; id += kSamplerThreads) shared_.weights[id - begin] = weightAt(id);
    __syncthreads();
    if (threadIdx.x == 0) {
      float sum = shared_.sum;
      int32_t token = begin;
      for (int32_t id = begin; id < end; id++) {
        if (shared_.weights[id - begin] > 0) token = id;
        sum = sum + shared_.weights[id - begin];
        if (sum > target) break;
      }
      shared_.place = token;
    }
    __syncthreads();
    return shared_.place;
  }

  // Walks ids in descending order while `goesOn(place, weight, logit)`, adding weights in that order; stops behind the one with which they reach `threshold`.
  // Ids and weights go to ids_ and weights_ where `keeps`. Returns how many; their sum is in shared_.sum.
  template <class F>
  MILLRACE_GPU int32_t walk(bool keeps, float threshold, F goesOn) {
    Order<ByLogit> order(shared_.order, ByLogit{logits_, false}, n_);
    int32_t kept = 0, count = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
      shared_.sum = 0;
      shared_.isDone = 0;
    }
    while ((count = order.next()) > 0) {
      for (int32_t i = first(); i < count; i += kSamplerThreads)
        shared_.weights[i] = weightOf(logits_[shared_.order.keys[i] & 0xffffffffu], maximum_, temperature_);
      __syncthreads();
      if (threadIdx.x == 0) {
        float sum = shared_.sum;
        int32_t i = 0;
        for (; i < count && shared_.isDone == 0; i++) {
          if (!goesOn(kept + i, shared_.weights[i], static_cast<int32_t>(shared_.order.keys[i] & 0xffffffffu))) break;
          sum = sum + shared_.weights[i];
          shared_.isDone = sum >= threshold ? 1 : 0;
        }
        if (i < count) shared_.isDone = 1;
        shared_.sum = sum;
        shared_.count = i;
      }
      __syncthreads();
      for (int32_t i = first(); keeps && i < shared_.count; i += kSamplerThreads) {
        ids_[kept + i] = static_cast<int32_t>(shared_.order.keys[i] & 0xffffffffu);
        weights_[kept + i] = shared_.weights[i];
      }
      kept += shared_.count;
      const bool isDone = shared_.isDone != 0;
      __syncthreads();
      if (isDone) break;
    }
    return kept;
  }

  MILLRACE_GPU int32_t drawInDescendingOrder(const Shaping& shaping) {
    const float least = sigmaLimit(shaping.topNSigma), topP = c_.topP[row_], minP = c_.minP[row_];
    const int32_t topK = topK_;
    float threshold = INFINITY;
    if (topK == 0 && topP < 1.0f) {
      threshold = topP * blockedSum([&](int32_t id) { return logits_[id] < least ? 0.0f : weightOf(logits_[id], maximum_, temperature_); });
    } else if (topP < 1.0f) {
      walk(false, INFINITY, [&](int32_t place, float, int32_t id) { return place < topK && logits_[id] >= least; });
      threshold = topP * shared_.sum;
    }
    const int32_t kept = walk(true, threshold, [&](int32_t place, float weight, int32_t id) {
      if (topK > 0 && place >= topK) return false;
      return place == 0 || !(weight == 0.0f || weight < minP || logits_[id] < least);
    });
    float total = shared_.sum;
    if (shaping.typicalP < 1.0f) {
      keepTypical(kept, total, shaping.typicalP);
      total = sumInOrder(kept);
    }
    if (shaping.xtcProbability > 0 && uniform(1) < shaping.xtcProbability) {
      excludeTopChoices(kept, total, shaping.xtcThreshold);
      total = sumInOrder(kept);
    }
    return ids_[placeOf(kept, uniform(0) * total)];
  }

  MILLRACE_GPU int32_t drawByMirostat(const Shaping& shaping, float& mu) {
    const float all = blockedSum([&](int32_t id) { return weightOf(logits_[id], maximum_, temperature_); });
    const int32_t kept = walk(true, INFINITY, [&](int32_t place, float weight, int32_t) {
      return place == 0 || !(weight == 0.0f || surprise(weight, all) > shaping.mirostatMu);
    });
    const float total = shared_.sum;
    const int32_t place = placeOf(kept, uniform(0) * total);
    mu = nextMu(shaping, surprise(weights_[place], total));
    return ids_[place];
  }

  MILLRACE_GPU void keepTypical(int32_t count, float total, float typicalP) {
    const float logTotal = logF32(total), threshold = typicalP * total;
    float* terms = own_;  // the logits are read no more
    for (int32_t i = first(); i < count; i += kSamplerThreads) terms[i] = (weights_[i] / total) * (logF32(weights_[i]) - logTotal);
    const float entropy = byFirst([&] {
      float sum = 0;
      for (int32_t i = 0; i < count; i++) sum = sum - terms[i];
      return sum;
    });
    const BySurprise keyOf{weights_, logTotal, entropy};
    Order<BySurprise> order(shared_.order, keyOf, count);
    uint64_t cut = ~uint64_t{0};
    if (threadIdx.x == 0) shared_.sum = 0;
    for (int32_t done = 0, size = 0; (size = order.next()) > 0; done += size) {
      for (int32_t i = first(); i < size; i += kSamplerThreads) shared_.weights[i] = weights_[shared_.order.keys[i] & 0xffffffffu];
      __syncthreads();
      if (threadIdx.x == 0) {
        float sum = shared_.sum;
        int32_t i = 0;
        for (; i < size && (done + i == 0 || sum < threshold); i++) sum = sum + shared_.weights[i];
        shared_.sum = sum;
        shared_.count = i;
      }
      __syncthreads();
      const int32_t taken = shared_.count;
      if (taken < size) cut = shared_.order.keys[taken];
      __syncthreads();
      if (taken < size) break;
    }
    for (int32_t i = first(); i < count; i += kSamplerThreads) {
      uint64_t key = 0;
      keyOf(i, key);
      if (key >= cut) weights_[i] = 0;
    }
    __syncthreads();
  }

  MILLRACE_GPU void excludeTopChoices(int32_t count, float total, float threshold) {
    const float least = threshold * total;
    __syncthreads();
    if (threadIdx.x == 0) shared_.count = -1;
    __syncthreads();
    int32_t own = -1;
    for (int32_t i = first(); i < count; i += kSamplerThreads)
      if (weights_[i] > 0 && weights_[i] >= least) own = i;
    if (own >= 0) atomicMax(&shared_.count, own);
    __syncthreads();
    for (int32_t i = first(); i < shared_.count; i += kSamplerThreads) weights_[i] = 0;
    __syncthreads();
  }

  MILLRACE_GPU float sumInOrder(int32_t count) {
    return byFirst([&] {
      float sum = 0;
      for (int32_t i = 0; i < count; i++) sum = sum + weights_[i];
      return sum;
    });
  }

  // The place where the running sum exceeds `target`, at the latest the last of weight above 0.
  MILLRACE_GPU int32_t placeOf(int32_t count, float target) {
    __syncthreads();
    if (threadIdx.x == 0) {
      float sum = 0;
      int32_t place = 0;
      for (int32_t i = 0; i < count && !(sum > target); i++) {
        if (weights_[i] > 0) place = i;
        sum = sum + weights_[i];
      }
      shared_.place = place;
    }
    __syncthreads();
    return shared_.place;
  }
};

}  // namespace millrace::cuda
