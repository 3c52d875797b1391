// Rounding of activations, once per linear call: each row of x becomes f32, bf16 or int8 values in scratch, zero-padded for the kernels.
//
//   bf16          round to nearest even
//   int8-group32  per run of 32: scale = amax / 127 (f32), q = nearest even of f32(x * f32(127 / amax)); amax 0, or so small that 127 / amax
//                 is beyond f32, gives zeros
//   int8-token    the same with one run per row
// The TypeScript reference does exactly this. A NaN or infinity makes the scale of its run, and so every product, NaN. Work is split over rows.
// AVX-512 takes four groups of 32 at once, with the same numbers: 11 cycles a group of a matrix beyond L2, where reading it takes most (20 to 28 one at a time).
#include "linear.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest even integer

// The largest |x| of a run; integers order like the magnitudes of floats, and NaN above all.
MILLRACE_INLINE float largestMagnitude(const float* x, int n) {
  int32_t best = 0;
  for (int i = 0; i < n; i++) best = larger(best, bitCast<int32_t>(x[i]) & 0x7fffffff);
  return bitCast<float>(best);
}
MILLRACE_INLINE bool isFinite(float x) { return x <= 3.4028235e38f; }
MILLRACE_INLINE float scaleOf(float largest) { return isFinite(largest) ? largest / 127.0f : bitCast<float>(0x7fc00000); }
MILLRACE_INLINE float inverseScale(float largest) {
  const float quotient = 127.0f / largest;
  return isFinite(largest) && isFinite(quotient) ? quotient : 0.0f;
}
MILLRACE_INLINE int32_t quantize(float x, float inverse) { return bitCast<int32_t>(x * inverse + kMagic) - bitCast<int32_t>(kMagic); }

#if defined(MILLRACE_AVX512)
constexpr int kGroupsAtOnce = 4;

// Folds the four 128-bit lanes' worth of a vector: what `op` makes of them, in the lowest.
template <class Op>
MILLRACE_INLINE __m128i foldLanes(__m512i v, Op op) {
  const __m256i half = op(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
  return _mm256_castsi256_si128(op(half, _mm256_castsi128_si256(_mm256_extracti128_si256(half, 1))));
}

// The largest magnitudes of four groups, as their bits: vectors are transposed in fours while they are folded.
MILLRACE_INLINE __m128i largestOfGroups(const float* x) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  __m512i most[4];
  MILLRACE_UNROLL
  for (int g = 0; g < 4; g++)
    most[g] = _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(x + g * 32), mask), _mm512_and_si512(_mm512_loadu_si512(x + g * 32 + 16), mask));
  const __m512i a = _mm512_max_epi32(_mm512_unpacklo_epi32(most[0], most[1]), _mm512_unpackhi_epi32(most[0], most[1]));
  const __m512i b = _mm512_max_epi32(_mm512_unpacklo_epi32(most[2], most[3]), _mm512_unpackhi_epi32(most[2], most[3]));
  return foldLanes(_mm512_max_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)), [](__m256i p, __m256i q) { return _mm256_max_epi32(p, q); });
}

// Two groups times their inverse scales as bytes, in order.
MILLRACE_INLINE __m512i quantizePair(const float* x, float first, float second) {
  const auto four = [&](int at, float inverse) { return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + at), _mm512_set1_ps(inverse))); };
  const __m512i words = _mm512_packs_epi16(_mm512_packs_epi32(four(0, first), four(16, first)), _mm512_packs_epi32(four(32, second), four(48, second)));
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), words);
}

// Four groups at once: the same numbers as the loop over groups below. With `rowInverse` under the scale of the row.
MILLRACE_INLINE void quantizeGroups(const float* x, const float* rowInverse, int32_t offset, int8_t* q, float* scales, int32_t* corrections, int32_t* halfSums) {
  alignas(16) float inverse[4];
  if (rowInverse == nullptr) {
    const __m128i bits = largestOfGroups(x);
    const __m128 largest = _mm_castsi128_ps(bits), most = _mm_set1_ps(127.0f);
    const __m128i infinite = _mm_set1_epi32(0x7f800000);
    const __m128 quotient = _mm_div_ps(most, largest);
    const __mmask8 finite = _mm_cmplt_epi32_mask(bits, infinite), known = _mm_cmplt_epi32_mask(_mm_castps_si128(quotient), infinite);
    _mm_storeu_ps(scales, _mm_mask_blend_ps(finite, _mm_castsi128_ps(_mm_set1_epi32(0x7fc00000)), _mm_div_ps(largest, most)));
    _mm_store_ps(inverse, _mm_maskz_mov_ps(finite & known, quotient));
  } else {
    _mm_storeu_ps(scales, _mm_set1_ps(1.0f));
    _mm_store_ps(inverse, _mm_set1_ps(*rowInverse));
  }
  const __m512i low = quantizePair(x, inverse[0], inverse[1]), high = quantizePair(x + 64, inverse[2], inverse[3]);
  _mm512_storeu_si512(q, low);
  _mm512_storeu_si512(q + 64, high);
  // A 128-bit lane is half a group: its sum, of low and high in turn.
  const __m512i ones = _mm512_set1_epi8(1), zeros = _mm512_setzero_si512();
  const __m512i a = _mm512_dpbusd_epi32(zeros, ones, low), b = _mm512_dpbusd_epi32(zeros, ones, high);
  const __m512i pairs = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i halves = _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, _MM_PERM_BADC));
  // Lanes 0 to 3 begin with the halves of groups 0 | 2, 0 | 2, 1 | 3, 1 | 3.
  const __m256i inOrder = _mm512_castsi512_si256(_mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0), halves));
  if (halfSums != nullptr) _mm256_storeu_si256(reinterpret_cast<__m256i*>(halfSums), inOrder);
  const __m256i sums = _mm256_hadd_epi32(inOrder, inOrder);
  const __m128i four = _mm_unpacklo_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(corrections), _mm_mullo_epi32(four, _mm_set1_epi32(-offset)));
}
#endif

// Quantises a run and returns the sum of its values.
MILLRACE_INLINE int32_t quantizeRun(const float* x, int n, float inverse, int8_t* q) {
  int32_t sum = 0;
  for (int i = 0; i < n; i++) {
    const int8_t value = static_cast<int8_t>(quantize(x[i], inverse));
    q[i] = value;
    sum += value;
  }
  return sum;
}

// `rowScale` is null for a scale of each group.
void rowToInt8(const float* x, int k, float* rowScale, int32_t offset, int8_t* q, float* scales, int32_t* corrections, int32_t* halfSums) {
  float scale = 1.0f, inverse = 0.0f;
  if (rowScale != nullptr) {
    const float largest = largestMagnitude(x, k);
    *rowScale = scaleOf(largest);
    inverse = inverseScale(largest);
  }
  int g = 0;
#if defined(MILLRACE_AVX512)
  for (; (g + kGroupsAtOnce) * kQ8Group <= k; g += kGroupsAtOnce)
    quantizeGroups(x + g * kQ8Group, rowScale == nullptr ? nullptr : &inverse, offset, q + g * kQ8Group, scales + g, corrections + g, halfSums == nullptr ? nullptr : halfSums + 2 * g);
#endif
  for (; g * kQ8Group < k; g++) {
    const float* run = x + g * kQ8Group;
    const int n = smaller(kQ8Group, k - g * kQ8Group);
    if (rowScale == nullptr) {
      const float largest = largestMagnitude(run, n);
      scale = scaleOf(largest);
      inverse = inverseScale(largest);
    }
    scales[g] = scale;
    const int32_t sum = quantizeRun(run, n, inverse, q + g * kQ8Group);
    corrections[g] = -offset * sum;
    if (halfSums == nullptr) continue;
    int32_t first = 0;
    for (int i = 0; i < smaller(n, kQ8Group / 2); i++) first += q[g * kQ8Group + i];
    halfSums[2 * g] = first;
    halfSums[2 * g + 1] = sum - first;
  }
}

void rowToInt8Values(const float* x, int k, int run, float* out) {
  for (int begin = 0; begin < k; begin += run) {
    const int n = smaller(run, k - begin);
    const float largest = largestMagnitude(x + begin, n), scale = scaleOf(largest), inverse = inverseScale(largest);
    for (int i = begin; i < begin + n; i++) out[i] = static_cast<float>(quantize(x[i], inverse)) * scale;
  }
}

void rowToF32(const float* x, int k, Activation activation, float* out) {
  switch (activation) {
    case Activation::f32: std::memcpy(out, x, static_cast<size_t>(k) * 4); break;
    case Activation::bf16:
      for (int i = 0; i < k; i++) out[i] = bf16ToF32(f32ToBf16(x[i]));
      break;
    case Activation::int8Group32: rowToInt8Values(x, k, kQ8Group, out); break;
    case Activation::int8Token: rowToInt8Values(x, k, k, out); break;
  }
  for (int64_t i = k; i < roundUp(k, 4); i++) out[i] = 0.0f;
}

void rowToBf16(const float* x, int k, uint16_t* out) {
  int i = 0;
  for (; i + kLanes <= k; i += kLanes) storeBf16(out + i, load(x + i));
  for (; i < k; i += kLanes) {
    alignas(64) uint16_t lanes[kLanes];
    storeBf16(lanes, loadPartial(x + i, k - i));
    for (int j = 0; j < k - i; j++) out[i + j] = lanes[j];
  }
  for (int64_t j = k; j < roundUp(k, 4); j++) out[j] = 0;
}

}  // namespace

RoundedRows roundActivations(const LinearArgs& args, Stored stored, int32_t offset, ThreadPool& pool, const Gather* gather) {
  const int k = args.weight->k;
  const bool wholeRow = args.activation == Activation::int8Token;
  if (stored == Stored::f32 && args.activation == Activation::f32 && k % 4 == 0 && gather == nullptr)
    return {reinterpret_cast<const uint8_t*>(args.x.data), args.x.stride * 4, nullptr, nullptr, 0, nullptr, nullptr};

  // One cache line more than the row: rows a power of two apart would meet in the same cache sets.
  const int64_t elementBytes = stored == Stored::f32 ? 4 : stored == Stored::bf16 ? 2 : 1;
  const int64_t stride = roundUp(roundUp(k, kQ8Group) * elementBytes, 64) + 64;
  const int64_t groups = ceilDiv(k, kQ8Group);
  uint8_t* data = args.scratch;
  float* scales = reinterpret_cast<float*>(data + stride * args.rows);
  int32_t* corrections = reinterpret_cast<int32_t*>(scales + groups * args.rows);
  int32_t* halfSums = stored == Stored::int8WithHalfSums ? corrections + groups * args.rows : nullptr;
  float* rowScales = wholeRow && (stored == Stored::int8 || stored == Stored::int8WithHalfSums) ? scales + groups * 4 * args.rows : nullptr;

  const auto round = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const float* x = gather == nullptr ? args.x.data + row * args.x.stride
                                         : args.x.data + gather->rows[row] / gather->slots * args.x.stride + gather->rows[row] % gather->slots * gather->slotStride;
      uint8_t* out = data + row * stride;
      switch (stored) {
        case Stored::f32: rowToF32(x, k, args.activation, reinterpret_cast<float*>(out)); break;
        case Stored::bf16: rowToBf16(x, k, reinterpret_cast<uint16_t*>(out)); break;
        case Stored::int8:
        case Stored::int8WithHalfSums:
          rowToInt8(x, k, rowScales == nullptr ? nullptr : rowScales + row, offset, reinterpret_cast<int8_t*>(out), scales + row * groups, corrections + row * groups,
                    halfSums == nullptr ? nullptr : halfSums + row * groups * 2);
          break;
      }
    }
  };
  constexpr int64_t kElementsPerTile = 16384;
  const int64_t rowsPerTile = larger<int64_t>(1, kElementsPerTile / k);
  const int64_t tiles = ceilDiv(args.rows, rowsPerTile);
  if (tiles == 1) round(0, args.rows);
  else pool.parallel(tiles, [&](int64_t tile, int) { round(tile * rowsPerTile, smaller<int64_t>(args.rows, (tile + 1) * rowsPerTile)); });
  return {data, stride, scales, corrections, groups, halfSums, rowScales};
}

}  // namespace millrace::cpu::MILLRACE_ISA
