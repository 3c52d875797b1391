// Between the two products of a split of attention: scores become weights, and parts of rows are joined.
//
//   t[j] = log2(e) * (cap(scale * s[j]) + slope * (j - own index));  m = max_j t;  p[j] = 2^(t[j] - m);  l = sum_j p[j]
//
// Two passes over a row: the maximum, then weights and their sum (by lane, j modulo kLanes; lanes folded as a tree). Where weights are rounded,
// p[j] * vscale[j] is what becomes bf16, vscale being the scale that the value of key j is stored under (1 where there is none), since that product meets the
// levels of the value; l is the sum of the weights as they were. Bound by arithmetic: 15 instructions a vector of scores, whatever the size of a head.
#include "attention_split.h"
#include "kv_runs.h"
#include "kv_storage.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

const float kNothing = -bitCast<float>(0x7f800000);

// Sum and maximum of all lanes, in the order of simd.h without its way through memory. A maximum passes over NaN in the upper half.
#if defined(MILLRACE_AVX512) || defined(MILLRACE_AVX2)
MILLRACE_INLINE __m128 upperHalf(__m256 v) { return _mm256_extractf128_ps(v, 1); }
MILLRACE_INLINE float sumOf(__m256 v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), upperHalf(v)), two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
MILLRACE_INLINE float maximumOf(__m256 v) {
  const __m128 four = _mm_max_ps(upperHalf(v), _mm256_castps256_ps128(v)), two = _mm_max_ps(_mm_movehl_ps(four, four), four);
  return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two));
}
#if defined(MILLRACE_AVX512)
MILLRACE_INLINE __m256 upperHalf(__m512 v) { return _mm512_extractf32x8_ps(v, 1); }
MILLRACE_INLINE float sumOf(__m512 v) { return sumOf(_mm256_add_ps(_mm512_castps512_ps256(v), upperHalf(v))); }
MILLRACE_INLINE float maximumOf(__m512 v) { return maximumOf(_mm256_max_ps(upperHalf(v), _mm512_castps512_ps256(v))); }
#endif
#else
MILLRACE_INLINE float sumOf(Vec v) { return reduceAdd(v); }
MILLRACE_INLINE float maximumOf(Vec v) { return reduceMax(v); }
#endif

// Nearest bf16, ties to even; what is not finite becomes NaN.
MILLRACE_INLINE Vec roundedToBf16(Vec v) {
  const VecI u = asInt(v), odd = andInt(shiftRightSigned<16>(u), set1Int(1));
  const Vec rounded = asFloat(andInt(addInt(addInt(u, set1Int(0x7fff)), odd), set1Int(static_cast<int32_t>(0xffff0000u))));
  return add(rounded, sub(v, v));
}

// Scales of the values of keys [begin, end) of a split into scales[0, kAttentionSplit), zero for others. False where the cache has none.
bool gatherScales(const KeySource& source, int kvHead, int32_t splitStart, int begin, int end, float* scales) {
  if (kvParameterBytes(source.cache->dtype) == 0) return false;
  std::memset(scales, 0, kAttentionSplit * 4);
  const int64_t stride = kvParameterBytes(source.cache->dtype), at = source.cache->dtype == KvDtype::int4 ? 2 : 0;  // of int4, above the zero point
  const float factor = source.cache->dtype == KvDtype::fp8 ? 256.0f : 1.0f;                                        // levels are read 2^8 too small
  const auto gather = [&](int32_t key, int32_t block, int32_t offset, int32_t count) {
    const uint8_t* parameters = valueParametersOf(*source.cache, block, kvHead) + at;
    for (int32_t i = 0; i < count; i++) scales[key - splitStart + i] = factor * bf16ToF32(readAs<uint16_t>(parameters + (offset + i) * stride));
  };
  forTableRuns(source, splitStart + begin, smaller(splitStart + end, source.visibleEnd), gather);
  forAncestors(source, splitStart + begin, splitStart + end, gather);
  return true;
}

struct SoftmaxRow {
  float scale, softCap, slope;
  int32_t distance;           // index of the split's first key less the row's own
  const float* valueScales;   // or null
  bool rounds, pairs;

  // Scores that need more than a factor, in place.
  void bend(float* scores, int begin, int end) const {
    for (int j = begin; j < end; j += kLanes) {
      Vec s = mul(load(scores + j), set1(scale));
      if (softCap != 0.0f) s = mul(set1(softCap), tanh(div(s, set1(softCap))));
      store(scores + j, s);
    }
    if (slope != 0.0f)
      for (int j = begin; j < end; j++) scores[j] += slope * static_cast<float>(distance + j);
  }

  // A vector of weights into its place.
  MILLRACE_INLINE void put(float* scores, int j, Vec p) const {
    if (pairs) {
      if (valueScales != nullptr) p = mul(p, load(valueScales + j));
      return storeBf16(reinterpret_cast<uint16_t*>(scores) + j, p);  // never beyond what has been read
    }
    if (rounds && valueScales == nullptr) p = roundedToBf16(p);
    if (rounds && valueScales != nullptr) {
      const Vec scales = load(valueScales + j);  // back to what multiplies the value itself; with a scale of zero all of it is zero
      p = div(roundedToBf16(mul(p, scales)), selectLess(abs(scales), set1(1e-45f), set1(1.0f), scales));
    }
    store(scores + j, p);
  }

  // Weights over [range.begin, range.end), zero in the rest of the first and last vector.
  void run(float* scores, KeyRange range, float* maximum, float* denominator) const {
    const int begin = range.begin / kLanes * kLanes, end = static_cast<int>(roundUp(range.end, kLanes));
    const bool isBent = softCap != 0.0f || slope != 0.0f;
    if (isBent) bend(scores, begin, end);
    for (int j = begin; j < range.begin; j++) scores[j] = kNothing;
    for (int j = range.end; j < end; j++) scores[j] = kNothing;
    const Vec factor = set1(isBent ? kLog2e : scale * kLog2e);
    Vec largest = set1(kNothing);
    for (int j = begin; j < end; j += kLanes) largest = max(largest, mul(load(scores + j), factor));
    const float m = maximumOf(largest);
    Vec sum = zero();
    for (int j = begin; j < end; j += kLanes) {
      const Vec p = exp2Negative(sub(mul(load(scores + j), factor), set1(m)));
      sum = add(sum, p);
      put(scores, j, p);
    }
    clear(scores, begin, range.begin);
    clear(scores, range.end, end);
    *maximum = m;
    *denominator = sumOf(sum);
  }

  // A scale that is not finite makes even a weight of nothing NaN.
  MILLRACE_INLINE void clear(float* scores, int begin, int end) const {
    if (!rounds) return;
    for (int j = begin; j < end; j++)
      if (pairs) reinterpret_cast<uint16_t*>(scores)[j] = 0;
      else scores[j] = 0.0f;
  }
};

}  // namespace

void softmaxRows(const ItemRows& rows, int32_t splitStart, int begin, int end, bool pairs, const SplitScratch& scratch, const PartialRows& out) {
  const AttentionArgs& args = rows.args;
  const bool hasScales = args.roundsToBf16 && gatherScales(keySource(rows), rows.kvHead, splitStart, begin, end, scratch.scales);
  SoftmaxRow row{args.scale, args.softCap, 0.0f, 0, hasScales ? scratch.scales : nullptr, args.roundsToBf16, pairs};
  for (int r = 0; r < rows.rows(); r++) {
    const KeyRange range = rangeInSplit(rows, r, splitStart);
    out.maximum[r] = kNothing;
    out.denominator[r] = 0.0f;
    if (range.begin >= range.end) continue;
    row.slope = args.slopes == nullptr ? 0.0f : args.slopes[rows.head(r)];
    row.distance = splitStart - args.cacheIndex[rows.token(r)];
    row.run(scratch.scores + int64_t{r} * kAttentionSplit, range, out.maximum + r, out.denominator + r);
  }
}

void mergeRow(const PartialRows& total, int64_t r, const PartialRows& part, int64_t partRow, int64_t stride) {
  float* output = total.output + r * stride;
  const float* added = part.output + partRow * stride;
  if (part.denominator[partRow] == 0.0f && part.maximum[partRow] == kNothing) return;  // the row has no key in this split
  if (total.denominator[r] == 0.0f && total.maximum[r] == kNothing) {
    total.maximum[r] = part.maximum[partRow];
    total.denominator[r] = part.denominator[partRow];
    std::memcpy(output, added, static_cast<size_t>(stride) * 4);
    return;
  }
  const float m = larger(total.maximum[r], part.maximum[partRow]);
  const Vec keep = exp2Negative(set1(total.maximum[r] - m)), take = exp2Negative(set1(part.maximum[partRow] - m));
  total.maximum[r] = m;
  total.denominator[r] = firstLane(fma(set1(part.denominator[partRow]), take, mul(set1(total.denominator[r]), keep)));
  for (int64_t d = 0; d < stride; d += kLanes) store(output + d, fma(load(added + d), take, mul(load(output + d), keep)));
}

}  // namespace millrace::cpu::MILLRACE_ISA
