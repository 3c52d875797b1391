// Plain loops over the vocabulary that the compiler vectorises; see sampler_kernels.h. About 4 to 12 bytes of cache traffic per id.
#include "sampler_kernels.h"

#include "../common/sampling_math.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

using samplingMath::expF32;
using samplingMath::kSumBlock;
using samplingMath::kSumLanes;

constexpr int kAccumulators = 64;
constexpr int32_t kChunk = 512;

float maximum(const float* values, int32_t n) {
  float lanes[kAccumulators];
  int32_t nan[kAccumulators] = {};
  for (int l = 0; l < kAccumulators; l++) lanes[l] = -__builtin_inff();
  int32_t i = 0;
  for (; i + kAccumulators <= n; i += kAccumulators) {
    for (int l = 0; l < kAccumulators; l++) {
      const float v = values[i + l];
      lanes[l] = v > lanes[l] ? v : lanes[l];
      nan[l] |= v != v ? 1 : 0;
    }
  }
  for (int l = 0; i + l < n; l++) {
    const float v = values[i + l];
    lanes[l] = v > lanes[l] ? v : lanes[l];
    nan[l] |= v != v ? 1 : 0;
  }
  float best = lanes[0];
  int32_t anyNan = 0;
  for (int l = 0; l < kAccumulators; l++) {
    best = lanes[l] > best ? lanes[l] : best;
    anyNan |= nan[l];
  }
  return anyNan != 0 ? __builtin_nanf("") : best;
}

constexpr int32_t kWordBits = 32;

int32_t countOf(int32_t n, int32_t begin, int32_t most) { return n - begin < most ? n - begin : most; }

// Lane l is all ones where bit l is set. Higher bits mean nothing.
MILLRACE_INLINE VecI lanesOf(uint32_t bits) {
#if defined(MILLRACE_AVX512)
  return _mm512_maskz_set1_epi32(static_cast<__mmask16>(bits), -1);
#elif defined(MILLRACE_AVX2)
  const VecI each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(set1Int(static_cast<int32_t>(bits)), each), each);
#else
  const VecI each = {1, 2, 4, 8};
  return (set1Int(static_cast<int32_t>(bits)) & each) == each;
#endif
}

// Lanes that are NaN, as all ones.
MILLRACE_INLINE VecI nanLanes(Vec v) {
#if defined(MILLRACE_AVX512)
  return _mm512_maskz_set1_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), -1);
#elif defined(MILLRACE_AVX2)
  return asInt(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
#else
  return v != v;
#endif
}

// Bit l is set where lane l is at least `least`.
MILLRACE_INLINE uint32_t bitsAtLeast(Vec v, Vec least) {
#if defined(MILLRACE_AVX512)
  return _mm512_cmp_ps_mask(v, least, _CMP_GE_OQ);
#elif defined(MILLRACE_AVX2)
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, least, _CMP_GE_OQ)));
#else
  const VecI hits = v >= least;
  return static_cast<uint32_t>((hits[0] & 1) | (hits[1] & 2) | (hits[2] & 4) | (hits[3] & 8));
#endif
}

MILLRACE_INLINE Vec pick(VecI lanes, Vec a, Vec b) { return asFloat(xorInt(asInt(b), andInt(xorInt(asInt(a), asInt(b)), lanes))); }

MILLRACE_INLINE bool isAllowed(const uint32_t* mask, int32_t id) { return mask == nullptr || (mask[id / kWordBits] & (1u << (id % kWordBits))) != 0; }

// Whether one of the ids of these words counts.
bool anyAllowed(const uint32_t* words, int32_t count) {
  uint32_t any = 0;
  for (int32_t w = 0; w < count; w++) any |= words[w];
  return any != 0;
}

// The largest of some values so far, and whether one was NaN.
struct Largest {
  float value = -__builtin_inff();
  bool hasNan = false;

  void add(float v) {
    if (v != v) hasNan = true;
    else value = v > value ? v : value;
  }
  void add(Vec v, VecI numNan) {
    float lanes[kLanes];
    int32_t nan[kLanes];
    store(lanes, v);
    std::memcpy(nan, &numNan, sizeof nan);
    for (int l = 0; l < kLanes; l++) {
      add(lanes[l]);
      if (nan[l] != 0) hasNan = true;
    }
  }
  float get() const { return hasNan ? __builtin_nanf("") : value; }
};

float maxima(const float* values, const uint32_t* mask, int32_t n, float* allowed) {
  const Vec none = set1(-__builtin_inff());
  constexpr int kParts = kWordBits / kLanes;
  Vec best[kParts], kept[kParts];
  VecI nan = set1Int(0), keptNan = set1Int(0);
  for (int part = 0; part < kParts; part++) best[part] = kept[part] = none;
  const int32_t numWords = n / kWordBits;
  for (int32_t w = 0; w < numWords; w++) {
    MILLRACE_UNROLL
    for (int part = 0; part < kParts; part++) {
      const Vec v = load(values + kWordBits * w + kLanes * part);
      const VecI lanes = lanesOf(mask[w] >> (kLanes * part)), isNan = nanLanes(v);
      best[part] = max(best[part], v);
      kept[part] = max(kept[part], pick(lanes, v, none));
      nan = subInt(nan, isNan);
      keptNan = subInt(keptNan, andInt(isNan, lanes));
    }
  }
  Largest all, some;
  for (int part = 0; part < kParts; part++) {
    all.add(best[part], nan);
    some.add(kept[part], keptNan);
  }
  for (int32_t i = kWordBits * numWords; i < n; i++) {
    all.add(values[i]);
    if (isAllowed(mask, i)) some.add(values[i]);
  }
  *allowed = some.get();
  return all.get();
}

// Chunks are scanned without a branch inside, so that only the chunk with the hit is walked.
int32_t firstEqual(const float* values, const uint32_t* mask, int32_t n, float wanted) {
  for (int32_t begin = 0; begin < n; begin += kChunk) {
    const int32_t end = begin + countOf(n, begin, kChunk);
    int32_t hits = 0;
    for (int32_t i = begin; i < end; i++) hits |= values[i] == wanted ? 1 : 0;
    if (hits == 0) continue;
    for (int32_t i = begin; i < end; i++)
      if (values[i] == wanted && isAllowed(mask, i)) return i;
  }
  return n;
}

void weightsOf(const float* logits, int32_t count, float maximum, float temperature, float least, float* out) {
  if (temperature == 1.0f && least == 0.0f) {  // logprobs: a division by 1 changes nothing but the time
    for (int32_t i = 0; i < count; i++) out[i] = expF32(logits[i] - maximum);
    return;
  }
  for (int32_t i = 0; i < count; i++) {
    const float weight = expF32((logits[i] - maximum) / temperature);
    out[i] = weight < least ? 0.0f : weight;
  }
}

float sumLanes(const float* values, int32_t n) {
  float lanes[kSumLanes] = {};
  int32_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes)
    for (int l = 0; l < kSumLanes; l++) lanes[l] += values[i + l];
  for (int l = 0; i + l < n; l++) lanes[l] += values[i + l];
  for (int width = kSumLanes / 2; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
  return lanes[0];
}

float sumBlocks(const float* values, int32_t n) {
  float sum = 0;
  for (int32_t begin = 0; begin < n; begin += kSumBlock) sum += sumLanes(values + begin, countOf(n, begin, kSumBlock));
  return sum;
}

// Words without a bit cost no exponential. At most kSumBlock ids, from the first bit of `words` on.
void allowedWeights(const float* logits, const uint32_t* words, int32_t count, float maximum, float temperature, float least, float* out) {
  int32_t i = 0;
  for (; i + kWordBits <= count; i += kWordBits) {
    const uint32_t word = words[i / kWordBits];
    if (word == 0) {
      for (int32_t l = 0; l < kWordBits; l += kLanes) store(out + i + l, zero());
      continue;
    }
    weightsOf(logits + i, kWordBits, maximum, temperature, least, out + i);
    for (int32_t l = 0; l < kWordBits; l += kLanes) store(out + i + l, asFloat(andInt(asInt(load(out + i + l)), lanesOf(word >> l))));
  }
  weightsOf(logits + i, count - i, maximum, temperature, least, out + i);
  for (; i < count; i++)
    if (!isAllowed(words, i)) out[i] = 0.0f;
}

float weights(const float* logits, const uint32_t* mask, int32_t n, float maximum, float temperature, float least, float* out, float* blockSums) {
  float sum = 0;
  for (int32_t begin = 0, block = 0; begin < n; begin += kSumBlock, block++) {
    const int32_t count = countOf(n, begin, kSumBlock);
    const uint32_t* words = mask == nullptr ? nullptr : mask + begin / kWordBits;
    const bool isEmpty = words != nullptr && begin + count < n && !anyAllowed(words, kSumBlock / kWordBits);
    if (words == nullptr) weightsOf(logits + begin, count, maximum, temperature, least, out + begin);
    else if (!isEmpty) allowedWeights(logits + begin, words, count, maximum, temperature, least, out + begin);
    const float blockSum = isEmpty ? 0.0f : sumLanes(out + begin, count);
    if (blockSums != nullptr) blockSums[block] = blockSum;
    sum += blockSum;
  }
  return sum;
}

void partMaxima(const float* values, int32_t n, float* maxima) {
  for (int32_t begin = 0; begin < n; begin += kMaximaSpan, maxima += kMaximaLanes) {
    const int32_t end = begin + countOf(n, begin, kMaximaSpan);
    float lanes[kMaximaLanes];
    for (int l = 0; l < kMaximaLanes; l++) lanes[l] = -__builtin_inff();
    int32_t i = begin;
    for (; i + kMaximaLanes <= end; i += kMaximaLanes)
      for (int l = 0; l < kMaximaLanes; l++) lanes[l] = values[i + l] > lanes[l] ? values[i + l] : lanes[l];
    for (int l = 0; i + l < end; l++) lanes[l] = values[i + l] > lanes[l] ? values[i + l] : lanes[l];
    for (int l = 0; l < kMaximaLanes; l++) maxima[l] = lanes[l];
  }
}

// Chunks without a hit are passed over by a loop without a branch inside.
int32_t gather(const float* logits, const uint32_t* mask, int32_t n, float least, int32_t* ids) {
  const float lowest = least > -__builtin_inff() ? least : -__FLT_MAX__;  // above -Infinity
  int32_t numIds = 0;
  for (int32_t begin = 0; begin < n; begin += kChunk) {
    const int32_t end = begin + countOf(n, begin, kChunk), endOfWords = end - (end - begin) % kWordBits;
    if (mask != nullptr && end < n && !anyAllowed(mask + begin / kWordBits, kChunk / kWordBits)) continue;
    int32_t hits = 0;
    for (int32_t i = begin; i < end; i++) hits |= logits[i] >= lowest ? 1 : 0;
    if (hits == 0) continue;
    for (int32_t i = begin; i < endOfWords; i += kWordBits) {
      uint32_t found = mask == nullptr ? 0xffffffffu : mask[i / kWordBits];
      if (found == 0) continue;
      uint32_t high = 0;
      for (int32_t l = 0; l < kWordBits; l += kLanes) high |= bitsAtLeast(load(logits + i + l), set1(lowest)) << l;
      for (found &= high; found != 0; found &= found - 1) ids[numIds++] = i + __builtin_ctz(found);
    }
    for (int32_t i = endOfWords; i < end; i++)
      if (logits[i] >= lowest && isAllowed(mask, i)) ids[numIds++] = i;
  }
  return numIds;
}

void masked(const float* logits, const uint32_t* mask, int32_t n, float* out) {
  const Vec none = set1(-__builtin_inff());
  int32_t i = 0;
  for (; i + kWordBits <= n; i += kWordBits)
    for (int32_t l = 0; l < kWordBits; l += kLanes) store(out + i + l, pick(lanesOf(mask[i / kWordBits] >> l), load(logits + i + l), none));
  for (; i < n; i++) out[i] = isAllowed(mask, i) ? logits[i] : -__builtin_inff();
}

}  // namespace

const SamplerKernels& samplerKernels() {
  static constexpr SamplerKernels kernels = {maximum, maxima, partMaxima, firstEqual, weights, sumBlocks, gather, masked};
  return kernels;
}

}  // namespace millrace::cpu::MILLRACE_ISA
