// linear with weights of groups whose levels are no integers: FP8 (E4M3, E5M2) under an f32 scale of 32 or 128, NF4 under one of 64. Two ways to sum, each the same
// at every number of rows:
//   FP8 by bf16, AVX-512   y = sum over groups of scale * (sum of bf16(x) * level): every level is exact in bf16, vdpbf16ps multiplies two steps at a time
//   all others             y = sum of x * f32(scale * level), as linear_float.cc
//
// Layout: [k / group]{ [64] f32 scales; [words of the group][64][4] bytes }. The four bytes of FP8 are steps 0, 2, 1, 3, so that even and odd bytes are pairs
// of neighbours. Levels by lookup in registers: FP8 in a table of 128 bf16 (four vectors; the sign apart; one table for either kind), NF4 in one of 16 f32; without AVX-512 FP8 as the
// bits of an f32 whose exponent is 120 (E5M2: 112) too small. Few rows: straight from the packed bytes; more: a piece of a tile is expanded into scratch (L1) first.
// Measured (as in linear_fields.cc): FP8 by bf16 1 row 106 % of the memory bandwidth, 8 rows 54 %, 32 rows 76 %, 512 rows 89 % of the vdpbf16ps peak (518 GFLOP/s); NF4 1 row
// 60 % of the memory bandwidth, 512 rows 86 % of the FMA peak.
#include "block_formats.h"
#include "linear.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kPieceSteps = 128;  // of K that are expanded at once
constexpr int kRowsAtOnce = 384;  // whose sums are kept between pieces

struct FloatScratch {
  alignas(64) float weights[kPieceSteps * kTileOutputs + 4 * kTileOutputs];
  alignas(64) float sums[kRowsAtOnce * kTileOutputs];
};
MILLRACE_INLINE FloatScratch& floatScratch() {
  alignas(64) static thread_local FloatScratch scratch;
  return scratch;
}

template <WeightFormat kFormat>
constexpr int kGroup = elementsOf(kFormat);
template <WeightFormat kFormat>
constexpr int64_t kGroupBytes = int64_t{blockBytesOf(kFormat)} * kTileOutputs;

// Calls f for the pieces of a segment with rows [rowBegin, rowEnd); sums lie beside the scratch between pieces.
template <WeightFormat kFormat, class F>
MILLRACE_INLINE void forPieces(const TileJob& segment, F&& f) {
  FloatScratch& own = floatScratch();
  const int end = segment.kBegin + segment.kCount;
  for (int row = segment.rowBegin; row < segment.rowEnd; row += kRowsAtOnce) {
    float* sums = own.sums - int64_t{row} * kTileOutputs;
    const uint8_t* packed = segment.weights;
    TileJob job = segment;
    job.weights = reinterpret_cast<const uint8_t*>(own.weights);
    job.rowBegin = row;
    job.rowEnd = smaller(segment.rowEnd, row + kRowsAtOnce);
    job.aheadLines = 0;
    for (int begin = segment.kBegin; begin < end; begin += kPieceSteps) {
      job.kBegin = begin;
      job.kCount = smaller(kPieceSteps, end - begin);
      job.from = begin == segment.kBegin ? segment.from : sums;
      job.to = begin + job.kCount < end ? sums : segment.to;
      f(job, packed, own.weights);
      packed += int64_t{job.kCount} / kGroup<kFormat> * kGroupBytes<kFormat>;
    }
  }
}

// E4M3 in the lowest byte of each lane as f32: bits of f32 with the exponent off by 120, which one exact product puts right; NaN apart.
MILLRACE_INLINE Vec e4m3ToFloats(VecI bytes) {
  const VecI magnitude = andInt(bytes, set1Int(127)), sign = shiftLeft<24>(andInt(bytes, set1Int(128)));
  const Vec value = mul(asFloat(shiftLeft<20>(magnitude)), set1(0x1p120f));
  const Vec number = selectLess(intToFloat(magnitude), set1(127.0f), value, set1(bitCast<float>(0x7fc00000)));
  return asFloat(xorInt(asInt(number), sign));
}

// E5M2 in the lowest byte of each lane as f32: the exponent off by 112; what has all exponent bits is no number.
MILLRACE_INLINE Vec e5m2ToFloats(VecI bytes) {
  const VecI magnitude = andInt(bytes, set1Int(127)), sign = shiftLeft<24>(andInt(bytes, set1Int(128)));
  const Vec order = intToFloat(magnitude), value = mul(asFloat(shiftLeft<21>(magnitude)), set1(0x1p112f));
  const Vec broken = selectLess(order, set1(125.0f), set1(bitCast<float>(0x7f800000)), set1(bitCast<float>(0x7fc00000)));
  return asFloat(xorInt(asInt(selectLess(order, set1(124.0f), value, broken)), sign));
}

template <WeightFormat kFormat>
MILLRACE_INLINE Vec fp8ToFloat(VecI bytes) {
  return isE5m2(kFormat) ? e5m2ToFloats(bytes) : e4m3ToFloats(bytes);
}

// NF4 in the lowest nibble of each lane.
MILLRACE_INLINE Vec nf4ToFloat(VecI nibbles) {
#if defined(MILLRACE_AVX512)
  return _mm512_permutexvar_ps(nibbles, _mm512_loadu_ps(kNf4Levels));  // reads the lowest four bits
#elif defined(MILLRACE_AVX2)
  const Vec low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(kNf4Levels), nibbles), high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(kNf4Levels + 8), nibbles);
  return _mm256_blendv_ps(low, high, asFloat(shiftLeft<28>(nibbles)));
#else
  Vec v{};
  for (int i = 0; i < kLanes; i++) v[i] = kNf4Levels[nibbles[i] & 15];
  return v;
#endif
}

// kSteps steps of K of NR vectors of outputs, scaled.
template <WeightFormat kFormat>
struct GroupWeights {
  static constexpr int kSteps = isFp8(kFormat) ? 4 : 8;
  template <int NR>
  static MILLRACE_INLINE void widen(const uint8_t* w, int k, int column, Vec (&out)[kSteps][NR]) {
    const uint8_t* group = w + int64_t{k / kGroup<kFormat>} * kGroupBytes<kFormat>;
    const uint8_t* p = group + kTileOutputs * 4 + (k % kGroup<kFormat>) / kSteps * kStepBytes + column * 4;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const VecI word = loadInt(p + j * kLanes * 4);
      const Vec scale = load(reinterpret_cast<const float*>(group) + column + j * kLanes);
      if constexpr (isFp8(kFormat)) {
        out[0][j] = mul(scale, fp8ToFloat<kFormat>(word));
        out[2][j] = mul(scale, fp8ToFloat<kFormat>(shiftRightSigned<8>(word)));
        out[1][j] = mul(scale, fp8ToFloat<kFormat>(shiftRightSigned<16>(word)));
        out[3][j] = mul(scale, fp8ToFloat<kFormat>(shiftRightSigned<24>(word)));
      } else {
        out[0][j] = mul(scale, nf4ToFloat(shiftRightSigned<4>(word)));
        out[1][j] = mul(scale, nf4ToFloat(word));
        out[2][j] = mul(scale, nf4ToFloat(shiftRightSigned<12>(word)));
        out[3][j] = mul(scale, nf4ToFloat(shiftRightSigned<8>(word)));
        out[4][j] = mul(scale, nf4ToFloat(shiftRightSigned<20>(word)));
        out[5][j] = mul(scale, nf4ToFloat(shiftRightSigned<16>(word)));
        out[6][j] = mul(scale, nf4ToFloat(shiftRightSigned<28>(word)));
        out[7][j] = mul(scale, nf4ToFloat(shiftRightSigned<24>(word)));
      }
    }
  }
};

// One row, straight from the packed bytes: the sums of linear_float.cc, in its order.
template <WeightFormat kFormat>
void runOneRow(const TileJob& job, int column) {
  using Weights = GroupWeights<kFormat>;
  constexpr int NR = kTileVectors;
  Vec sums[1][NR];
  startRows<1, NR>(job, job.rowBegin, column, sums);
  Fetch fetch(job, 0, column);
  const uint8_t* x = job.x.data + job.rowBegin * job.x.stride + int64_t{job.kBegin} * 4;
  for (int k = 0; k < job.kCount; k += Weights::kSteps) {
    Vec w[Weights::kSteps][NR];
    Weights::template widen<NR>(job.weights, k, column, w);
    fetch.step();
    MILLRACE_UNROLL
    for (int s = 0; s < Weights::kSteps; s++) {
      const Vec broadcast = set1(readAs<float>(x + (int64_t{k} + s) * 4));
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[0][j] = fma(w[s][j], broadcast, sums[0][j]);
    }
  }
  finishTile<1, NR>(job, job.rowBegin, column, sums);
}

template <WeightFormat kFormat>
void runFloats(const TileJob& segment) {
  using Weights = GroupWeights<kFormat>;
  if (segment.rowEnd - segment.rowBegin == 1) {
    for (int column = 0; column < segment.numOutputs; column += kTileVectors * kLanes) runOneRow<kFormat>(segment, column);
    return;
  }
  forPieces<kFormat>(segment, [](const TileJob& job, const uint8_t* packed, float* out) {
    for (int k = 0; k < job.kCount; k += Weights::kSteps) {
      for (int lane = 0; lane < kTileOutputs; lane += kLanes) {
        Vec w[Weights::kSteps][1];
        Weights::template widen<1>(packed, k, lane, w);
        MILLRACE_UNROLL
        for (int s = 0; s < Weights::kSteps; s++) store(out + (k + s) * kTileOutputs + lane, w[s][0]);
      }
    }
    floatKernel(WeightFormat::f32)(job);
  });
}

#if defined(MILLRACE_AVX512)
// Bits of the bf16 that each of the 128 magnitudes of E4M3 is.
struct Fp8Table {
  alignas(64) uint16_t bf16[128];
};
constexpr Fp8Table makeE4m3Table() {
  Fp8Table table{};
  for (int bits = 0; bits < 128; bits++) {
    int exponent = bits >> 3, fraction = bits & 7;
    if (exponent == 0 && fraction != 0) {  // fraction * 2^-9, made normal
      for (exponent = 1; fraction < 8; exponent--) fraction *= 2;
      fraction &= 7;
    }
    table.bf16[bits] = static_cast<uint16_t>(bits == 127 ? 0x7fc0 : bits == 0 ? 0 : (exponent + 120) << 7 | fraction << 4);
  }
  return table;
}
// The same of E5M2.
constexpr Fp8Table makeE5m2Table() {
  Fp8Table table{};
  for (int bits = 0; bits < 128; bits++) {
    int exponent = bits >> 2, fraction = bits & 3;
    if (exponent == 0 && fraction != 0) {  // fraction * 2^-16, made normal
      for (exponent = 1; fraction < 4; exponent--) fraction *= 2;
      fraction &= 3;
    }
    table.bf16[bits] = static_cast<uint16_t>(bits > 124 ? 0x7fc0 : bits == 124 ? 0x7f80 : bits == 0 ? 0 : (exponent + 112) << 7 | fraction << 5);
  }
  return table;
}
constexpr Fp8Table kE4m3Table = makeE4m3Table(), kE5m2Table = makeE5m2Table();

template <WeightFormat kFormat>
struct Fp8Lookup {
  __m512i table[4];
  MILLRACE_INLINE Fp8Lookup() {
    const Fp8Table& levels = isE5m2(kFormat) ? kE5m2Table : kE4m3Table;
    for (int i = 0; i < 4; i++) table[i] = _mm512_load_si512(levels.bf16 + i * 32);
  }
  // Of the low byte of each 16 bits; `signs` has the sign on top of them.
  MILLRACE_INLINE __m512i operator()(__m512i bytes, __m512i signs) const {
    const __m512i low = _mm512_permutex2var_epi16(table[0], bytes, table[1]), high = _mm512_permutex2var_epi16(table[2], bytes, table[3]);
    const __m512i magnitude = _mm512_mask_blend_epi16(_mm512_test_epi16_mask(bytes, _mm512_set1_epi16(0x40)), low, high);
    return _mm512_ternarylogic_epi32(magnitude, signs, _mm512_set1_epi16(static_cast<short>(0x8000)), 0xf8);  // magnitude | (signs & mask)
  }
  MILLRACE_INLINE __m512i even(__m512i word) const { return (*this)(word, _mm512_slli_epi16(word, 8)); }
  MILLRACE_INLINE __m512i odd(__m512i word) const { return (*this)(_mm512_srli_epi16(word, 8), word); }
};

MILLRACE_INLINE __m512bh pairOfX(const uint8_t* x) { return bitCast<__m512bh>(_mm512_set1_epi32(readAs<int32_t>(x))); }

// Packed bytes, one row.
template <WeightFormat kFormat>
void runOneRowBf16(const TileJob& job) {
  constexpr int NR = kTileVectors;
  const Fp8Lookup<kFormat> lookup;
  Vec totals[1][NR];
  startRows<1, NR>(job, job.rowBegin, 0, totals);
  Fetch fetch(job, 0, 0);
  const uint8_t* x = job.x.data + job.rowBegin * job.x.stride + int64_t{job.kBegin} * 2;
  const uint8_t* w = job.weights;
  for (int group = 0; group < job.kCount / kGroup<kFormat>; group++) {
    const float* scales = reinterpret_cast<const float*>(w);
    fetch.step();
    w += kTileOutputs * 4;
    Vec sums[NR] = {zero(), zero(), zero(), zero()};
    for (int k = 0; k < kGroup<kFormat>; k += 4, w += kStepBytes, x += 8) {
      fetch.step();
      const __m512bh first = pairOfX(x), second = pairOfX(x + 4);
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        const __m512i word = _mm512_loadu_si512(w + j * 64);
        sums[j] = _mm512_dpbf16_ps(sums[j], bitCast<__m512bh>(lookup.even(word)), first);
        sums[j] = _mm512_dpbf16_ps(sums[j], bitCast<__m512bh>(lookup.odd(word)), second);
      }
    }
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) totals[0][j] = fma(sums[j], load(scales + j * kLanes), totals[0][j]);
  }
  finishTile<1, NR>(job, job.rowBegin, 0, totals);
}

// Expanded: [k / group]{ [64] f32 scales; [group / 2][64][2] bf16 }.
template <WeightFormat kFormat>
struct Bf16GroupTile {
  const TileJob& job;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec totals[MR][NR];
    startRows<MR, NR>(job, row, 0, totals);
    Fetch fetch(job, block, 0);
    const uint8_t* x = job.x.data + row * job.x.stride + int64_t{job.kBegin} * 2;
    const uint8_t* w = job.weights;
    for (int group = 0; group < job.kCount / kGroup<kFormat>; group++) {
      const float* scales = reinterpret_cast<const float*>(w);
      w += kTileOutputs * 4;
      Vec sums[MR][NR];
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = zero();
      }
      for (int k = 0; k < kGroup<kFormat>; k += 2, w += kStepBytes, x += 4) {
        __m512bh pair[NR];
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) pair[j] = bitCast<__m512bh>(_mm512_loadu_si512(w + j * 64));
        if (k % 4 == 0) fetch.step();
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) {
          const __m512bh broadcast = pairOfX(x + m * job.x.stride);
          MILLRACE_UNROLL
          for (int j = 0; j < NR; j++) sums[m][j] = _mm512_dpbf16_ps(sums[m][j], pair[j], broadcast);
        }
      }
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        const Vec scale = load(scales + j * kLanes);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) totals[m][j] = fma(sums[m][j], scale, totals[m][j]);
      }
    }
    finishTile<MR, NR>(job, row, 0, totals);
  }
};

template <WeightFormat kFormat>
void runBf16(const TileJob& segment) {
  if (segment.rowEnd - segment.rowBegin == 1) return runOneRowBf16<kFormat>(segment);
  forPieces<kFormat>(segment, [](TileJob& job, const uint8_t* packed, float* scratch) {
    const Fp8Lookup<kFormat> lookup;
    const uint8_t* next = packed + int64_t{job.kCount} / kGroup<kFormat> * kGroupBytes<kFormat>;
    uint8_t* out = reinterpret_cast<uint8_t*>(scratch);
    for (int group = 0; group < job.kCount / kGroup<kFormat>; group++) {
      std::memcpy(out, packed, kTileOutputs * 4);
      packed += kTileOutputs * 4;
      out += kTileOutputs * 4;
      for (int k = 0; k < kGroup<kFormat>; k += 4, packed += kStepBytes, out += 2 * kStepBytes) {
        MILLRACE_UNROLL
        for (int lane = 0; lane < kTileOutputs; lane += kLanes) {
          const __m512i word = _mm512_loadu_si512(packed + lane * 4);
          _mm512_store_si512(out + lane * 4, lookup.even(word));
          _mm512_store_si512(out + kStepBytes + lane * 4, lookup.odd(word));
        }
      }
    }
    job.ahead = next;  // while this piece is multiplied
    job.aheadLines = 5;
    job.aheadBlocks = 1;
    forRowBlocks<3>(job.rowBegin, job.rowEnd, Bf16GroupTile<kFormat>{job});  // two sets of sums per output live at once
  });
}
#endif

template <WeightFormat kFormat>
TileKernel pick(Stored stored) {
#if defined(MILLRACE_AVX512)
  if constexpr (isFp8(kFormat)) {
    if (stored == Stored::bf16) return runBf16<kFormat>;
  }
#endif
  return stored == Stored::f32 ? runFloats<kFormat> : nullptr;
}

}  // namespace

TileKernel floatGroupKernel(WeightFormat format, Stored stored) {
  switch (format) {
    case WeightFormat::fp8_g32: return pick<WeightFormat::fp8_g32>(stored);
    case WeightFormat::fp8_g128: return pick<WeightFormat::fp8_g128>(stored);
    case WeightFormat::fp8_e5m2_g32: return pick<WeightFormat::fp8_e5m2_g32>(stored);
    case WeightFormat::fp8_e5m2_g128: return pick<WeightFormat::fp8_e5m2_g128>(stored);
    case WeightFormat::nf4: return pick<WeightFormat::nf4>(stored);
    default: return nullptr;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
