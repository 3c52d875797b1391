// Ops on single elements and single rows: rmsNorm, addRmsNorm, layerNorm, add, scale, softCap,
// activation, gatedActivation, clampedSwiglu, expertCombine.
//
// Written as plain loops that the compiler vectorises for each instruction set, or as vectors. There are no fused multiply-adds and no reassociation, so a loop's
// tail computes what its body would, and every instruction set gives the same bits. A row is a function of that row alone: sums of squares
// run over kSumLanes partial sums, column c in lane c % kSumLanes, lanes added as a fixed tree. Work is split over rows (and, for ops without a
// sum, over columns) by size; who computes what never shows.
// All of these stream: 2 to 4 f32 per element, bound by cache or memory bandwidth; SiLU and GELU (tanh) by their arithmetic, 14 and 21 cycles for 16 elements.
#include <cmath>
#include <cstring>

#include "elementwise.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kSumLanes = 64;             // four 512-bit or eight 256-bit accumulators: enough to hide the latency of an add
constexpr int64_t kTileElements = 8192;  // per tile: about a microsecond of work, so that handing it out does not show

inline float bitsToFloat(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline int32_t floatToBits(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// e^x within 2 ulp for x in [-87, 88]; beyond, the value at the end of that range. NaN gives NaN.
// x = n ln 2 + r, |r| <= ln(2) / 2; e^r = 1 + r + r^2 p(r), p by least maximum error (Lawson's iteration).
inline float expApprox(float x) {
  const float clamped = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float shifted = clamped * 1.442695041f + kRound;
  const float n = shifted - kRound;
  float r = clamped - n * 0.693359375f;  // ln 2 in two parts, the first exact in 9 bits
  r = r - n * -2.12194440e-4f;
  float p = 1.394216553e-3f;
  p = p * r + 8.363775909e-3f;
  p = p * r + 4.166636243e-2f;
  p = p * r + 1.666657329e-1f;
  p = p * r + 5.000000000e-1f;
  const float e = p * (r * r) + r + 1.0f;
  const uint32_t exponent = static_cast<uint32_t>(floatToBits(shifted) - floatToBits(kRound)) << 23;
  return bitsToFloat(static_cast<int32_t>(static_cast<uint32_t>(floatToBits(e)) + exponent));
}

// tanh x within 1e-6 relative: an odd polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel.
inline float tanhApprox(float x) {
  const float magnitude = std::fabs(x);
  const float square = x * x;
  float p = 2.064665314e-3f;
  p = p * square - 8.091968484e-3f;
  p = p * square + 2.166634612e-2f;
  p = p * square - 5.394056439e-2f;
  p = p * square + 1.333315820e-1f;
  p = p * square - 3.333332837e-1f;
  const float near = x + x * square * p;
  const float capped = magnitude > 20.0f ? 20.0f : magnitude;
  const float far = 1.0f - 2.0f / (expApprox(2.0f * capped) + 1.0f);
  return magnitude < 0.625f ? near : std::copysign(far, x) + (capped - capped);  // keeps a NaN; an infinity is capped
}

// erfc z for z >= 0: e^(-z^2) t p(t), t = 1 / (1 + z / 2), p by least maximum relative error on z in [0, 14].
inline float erfcApprox(float z) {
  const float t = 1.0f / (1.0f + 0.5f * z);
  float p = -5.938635021e-2f;
  p = p * t + 2.861235142e-1f;
  p = p * t - 4.904055893e-1f;
  p = p * t + 2.817325890e-1f;
  p = p * t - 2.914821729e-2f;
  p = p * t + 2.037524730e-1f;
  p = p * t + 2.428351045e-1f;
  p = p * t + 2.824121118e-1f;
  p = p * t + 2.820843458e-1f;
  return expApprox(-(z * z)) * t * p;
}

// The same for vectors, step by step, so that the bits are the same: compilers leave loops over silu and what is like it half undone.
MILLRACE_INLINE Vec expApprox(Vec x) {
  const Vec clamped = min(set1(88.0f), max(set1(-87.0f), x));  // both give their second operand where one is NaN
  const Vec round = set1(12582912.0f);
  const Vec shifted = add(mul(clamped, set1(1.442695041f)), round);
  const Vec n = sub(shifted, round);
  Vec r = sub(clamped, mul(n, set1(0.693359375f)));
  r = sub(r, mul(n, set1(-2.12194440e-4f)));
  Vec p = set1(1.394216553e-3f);
  p = add(mul(p, r), set1(8.363775909e-3f));
  p = add(mul(p, r), set1(4.166636243e-2f));
  p = add(mul(p, r), set1(1.666657329e-1f));
  p = add(mul(p, r), set1(5.000000000e-1f));
  const Vec e = add(add(mul(p, mul(r, r)), r), set1(1.0f));
  return asFloat(addInt(asInt(e), shiftLeft<23>(subInt(asInt(shifted), asInt(round)))));
}

MILLRACE_INLINE Vec silu(Vec x) { return div(x, add(set1(1.0f), expApprox(sub(zero(), x)))); }

// x/2 (1 + tanh u) = x / (1 + e^(-2u)): no cancellation for negative x.
MILLRACE_INLINE Vec geluTanh(Vec x) {
  const Vec u = mul(set1(0.7978845608f), add(x, mul(set1(0.044715f), mul(mul(x, x), x))));
  return div(x, add(set1(1.0f), expApprox(mul(set1(-2.0f), u))));
}

inline float geluErf(float x) {
  const float half = 0.5f * erfcApprox(std::fabs(x) * 0.7071067812f);
  return x * (x < 0.0f ? half : 1.0f - half);
}

// Tree over the lanes, in place.
inline float sumLanes(float* lanes) {
  for (int width = kSumLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
}

inline float sumOfSquares(const float* x, int32_t width) {
  alignas(64) float lanes[kSumLanes] = {};
  int32_t c = 0;
  for (; c + kSumLanes <= width; c += kSumLanes)
    for (int i = 0; i < kSumLanes; i++) lanes[i] += x[c + i] * x[c + i];
  for (int i = 0; c + i < width; i++) lanes[i] += x[c + i] * x[c + i];
  return sumLanes(lanes);
}

inline void normRow(const float* x, float* y, int32_t width, int32_t groupWidth, const float* weight, float weightOffset, float epsilon) {
  for (int32_t begin = 0; begin < width; begin += groupWidth) {
    const float meanSquare = sumOfSquares(x + begin, groupWidth) / static_cast<float>(groupWidth);
    const float inverse = 1.0f / std::sqrt(meanSquare + epsilon);
    for (int32_t c = 0; c < groupWidth; c++) y[begin + c] = x[begin + c] * inverse * (weight[c] + weightOffset);
  }
}

inline float sumOf(const float* x, int32_t width) {
  alignas(64) float lanes[kSumLanes] = {};
  int32_t c = 0;
  for (; c + kSumLanes <= width; c += kSumLanes)
    for (int i = 0; i < kSumLanes; i++) lanes[i] += x[c + i];
  for (int i = 0; c + i < width; i++) lanes[i] += x[c + i];
  return sumLanes(lanes);
}

// Two passes: the squares are of what is left when the mean is gone, which is kept in y meanwhile.
inline void layerNormRow(const float* x, float* y, int32_t width, const float* weight, const float* bias, float epsilon) {
  const float mean = sumOf(x, width) / static_cast<float>(width);
  for (int32_t c = 0; c < width; c++) y[c] = x[c] - mean;
  const float inverse = 1.0f / std::sqrt(sumOfSquares(y, width) / static_cast<float>(width) + epsilon);
  for (int32_t c = 0; c < width; c++) y[c] = y[c] * inverse * weight[c];
  if (bias == nullptr) return;
  for (int32_t c = 0; c < width; c++) y[c] += bias[c];
}

inline int64_t rowsPerTile(int32_t width) { return width >= kTileElements ? 1 : kTileElements / width; }

// f(first row, end) over tiles of whole rows.
template <class F>
void forRows(int32_t rows, int32_t width, ThreadPool& pool, F f) {
  const int64_t step = rowsPerTile(width);
  pool.parallel((rows + step - 1) / step, [&](int64_t tile, int) {
    const int64_t begin = tile * step;
    const int64_t end = begin + step < rows ? begin + step : rows;
    f(begin, end);
  });
}

// f(row, first column, count) over tiles of whole rows or, where rows are long, pieces of one.
template <class F>
void forElements(int32_t rows, int32_t width, ThreadPool& pool, F f) {
  const int32_t pieces = static_cast<int32_t>((width + kTileElements - 1) / kTileElements);
  if (pieces <= 1) {
    forRows(rows, width, pool, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) f(row, 0, width);
    });
    return;
  }
  pool.parallel(int64_t{rows} * pieces, [&](int64_t tile, int) {
    const int32_t begin = static_cast<int32_t>(tile % pieces * kTileElements);
    const int32_t left = width - begin;
    f(tile / pieces, begin, left < kTileElements ? left : static_cast<int32_t>(kTileElements));
  });
}

template <class F>
void mapPairs(ConstRows a, ConstRows b, Rows y, int32_t rows, int32_t width, ThreadPool& pool, F f) {
  forElements(rows, width, pool, [&](int64_t row, int32_t begin, int32_t count) {
    const float* pa = a.data + row * a.stride + begin;
    const float* pb = b.data + row * b.stride + begin;
    float* py = y.data + row * y.stride + begin;
    for (int32_t i = 0; i < count; i++) py[i] = f(pa[i], pb[i]);
  });
}

template <class F>
void map(ConstRows x, Rows y, int32_t rows, int32_t width, ThreadPool& pool, F f) {
  forElements(rows, width, pool, [&](int64_t row, int32_t begin, int32_t count) {
    const float* px = x.data + row * x.stride + begin;
    float* py = y.data + row * y.stride + begin;
    for (int32_t i = 0; i < count; i++) py[i] = f(px[i]);
  });
}

// Of vectors of pairs: f(Vec, Vec), the last of a row with zeros beyond its end.
template <class F>
void mapVectors(ConstRows a, ConstRows b, Rows y, int32_t rows, int32_t width, ThreadPool& pool, F f) {
  forElements(rows, width, pool, [&](int64_t row, int32_t begin, int32_t count) {
    const float* pa = a.data + row * a.stride + begin;
    const float* pb = b.data + row * b.stride + begin;
    float* py = y.data + row * y.stride + begin;
    int32_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(py + i, f(load(pa + i), load(pb + i)));
    if (i < count) storePartial(py + i, f(loadPartial(pa + i, count - i), loadPartial(pb + i, count - i)), count - i);
  });
}

}  // namespace

void rmsNorm(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset, float epsilon, ThreadPool& pool) {
  forRows(rows, width, pool, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      normRow(x.data + row * x.stride, y.data + row * y.stride, width, groupWidth, weight, weightOffset, epsilon);
  });
}

void addRmsNorm(ConstRows a, ConstRows b, Rows sum, Rows normed, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset,
                float epsilon, ThreadPool& pool) {
  forRows(rows, width, pool, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const float* pa = a.data + row * a.stride;
      const float* pb = b.data + row * b.stride;
      float* ps = sum.data + row * sum.stride;
      for (int32_t c = 0; c < width; c++) ps[c] = pa[c] + pb[c];
      normRow(ps, normed.data + row * normed.stride, width, groupWidth, weight, weightOffset, epsilon);
    }
  });
}

void layerNorm(ConstRows x, Rows y, int32_t rows, int32_t width, const float* weight, const float* bias, float epsilon, ThreadPool& pool) {
  forRows(rows, width, pool, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) layerNormRow(x.data + row * x.stride, y.data + row * y.stride, width, weight, bias, epsilon);
  });
}

void add(ConstRows a, ConstRows b, Rows y, int32_t rows, int32_t width, ThreadPool& pool) {
  mapPairs(a, b, y, rows, width, pool, [](float x, float z) { return x + z; });
}

void scale(ConstRows x, Rows y, int32_t rows, int32_t width, float factor, ThreadPool& pool) {
  map(x, y, rows, width, pool, [factor](float v) { return v * factor; });
}

void softCap(ConstRows x, Rows y, int32_t rows, int32_t width, float cap, ThreadPool& pool) {
  map(x, y, rows, width, pool, [cap](float v) { return cap * tanhApprox(v / cap); });
}

void gatedActivation(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, int32_t function, ThreadPool& pool) {
  if (function == 0) mapVectors(gate, up, y, rows, width, pool, [](Vec g, Vec u) { return mul(silu(g), u); });
  else if (function == 1) mapVectors(gate, up, y, rows, width, pool, [](Vec g, Vec u) { return mul(geluTanh(g), u); });
  else mapPairs(gate, up, y, rows, width, pool, [](float g, float u) { return geluErf(g) * u; });
}

void clampedSwiglu(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, float alpha, float limit, ThreadPool& pool) {
  mapVectors(gate, up, y, rows, width, pool, [alpha, limit](Vec g, Vec u) {
    const Vec most = set1(limit), least = set1(-limit);
    const Vec cappedGate = selectLess(most, g, most, g);  // a NaN stays one
    const Vec cappedUp = selectLess(most, u, most, selectLess(u, least, least, u));
    return mul(div(cappedGate, add(set1(1.0f), expApprox(sub(zero(), mul(set1(alpha), cappedGate))))), add(cappedUp, set1(1.0f)));
  });
}

void expertCombine(ConstRows y, ConstRows weights, Rows out, int32_t rows, int32_t width, int32_t slots, ThreadPool& pool) {
  forElements(rows, width, pool, [&](int64_t row, int32_t begin, int32_t count) {
    const float* from = y.data + row * y.stride + begin;
    const float* share = weights.data + row * weights.stride;
    float* to = out.data + row * out.stride + begin;
    for (int32_t i = 0; i < count; i++) to[i] = share[0] * from[i];
    for (int32_t slot = 1; slot < slots; slot++) {
      const float* next = from + int64_t{slot} * width;
      const float w = share[slot];
      for (int32_t i = 0; i < count; i++) to[i] += w * next[i];
    }
  });
}

void activation(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t function, ThreadPool& pool) {
  if (function == 0) mapVectors(x, x, y, rows, width, pool, [](Vec v, Vec) { return silu(v); });
  else if (function == 1) mapVectors(x, x, y, rows, width, pool, [](Vec v, Vec) { return geluTanh(v); });
  else if (function == 2) map(x, y, rows, width, pool, [](float v) { return geluErf(v); });
  else map(x, y, rows, width, pool, [](float v) { return v < 0.0f ? 0.0f : v; });
}

}  // namespace millrace::cpu::MILLRACE_ISA
