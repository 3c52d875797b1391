// linear with weights in formats that have no kernel of their own (q2_k, q3_k, iq4_nl, iq4_xs, mxfp4, integer groups, fp8, nf4). fp8 and
// nf4, whose levels are no integers, always go the way of float activations.
//
// Weights stay as the file has them, row by row. A piece of a tile (64 outputs by up to kPieceSteps of K) is unpacked into scratch of the thread, then
// multiplied with all rows at hand:
//   float activations   into [k][64] f32; linear_float.cc's f32 kernel does the rest
//   int8 activations    into groups of 32: [1 or 2][64] f32 scales; as many minimums, where the format has them; [8][64][4] int8 levels. With h the
//                       halves (or the whole) of a group g: y += sum over h of sx * s * (sum qx * level) + sx * (sum qx) * minimum, the first product fused
// Sums go on from piece to piece, so that neither pieces nor rows change a bit. Unpacking costs some 8 ns a group of 32, which is most of
// the time at few rows (1 row: 2 GB/s of weights a thread).
#include "block_formats.h"
#include "linear_int8.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kPieceSteps = 256, kFewRows = 64;

// Per thread, apart from the stack: the largest piece as f32, and sums of few rows between pieces.
struct Scratch {
  alignas(64) uint8_t weights[int64_t{kLinearSegment} * kTileOutputs * 4];
  alignas(64) float sums[kFewRows * kTileOutputs];
};
Scratch& scratch() {
  alignas(64) static thread_local Scratch s;
  return s;
}

template <WeightFormat kFormat>
constexpr int kGroupBytes = kTileOutputs * 4 * (BlockTraits<kFormat>::kHalves ? 2 : 1) * (BlockTraits<kFormat>::kMinimums ? 2 : 1) + kTileOutputs * kQ8Group;

template <WeightFormat kFormat>
void unpackToFloats(const TileJob& job, const uint8_t* weights, int groups, uint8_t* to) {
  float* out = reinterpret_cast<float*>(to);
  float values[32];
  for (int lane = 0; lane < job.numOutputs; lane++) {
    for (int g = 0; g < groups; g++) {
      readValues<kFormat>(weights + lane * job.rowStride, g, values);
      for (int i = 0; i < 32; i++) out[(int64_t{g} * 32 + i) * kTileOutputs + lane] = values[i];
    }
  }
}

template <WeightFormat kFormat>
void unpackToInt8(const TileJob& job, const uint8_t* weights, int groups, uint8_t* to) {
  constexpr int halves = BlockTraits<kFormat>::kHalves ? 2 : 1;
  BlockGroup group;
  for (int lane = 0; lane < job.numOutputs; lane++) {
    for (int g = 0; g < groups; g++) {
      readGroup<kFormat>(weights + lane * job.rowStride, g, group);
      uint8_t* out = to + int64_t{g} * kGroupBytes<kFormat>;
      float* scales = reinterpret_cast<float*>(out) + lane;
      for (int h = 0; h < halves; h++) scales[h * kTileOutputs] = group.scales[h];
      out += kTileOutputs * 4 * halves;
      if (BlockTraits<kFormat>::kMinimums) {
        for (int h = 0; h < halves; h++) reinterpret_cast<float*>(out)[h * kTileOutputs + lane] = group.minimums[h];
        out += kTileOutputs * 4 * halves;
      }
      for (int step = 0; step < 8; step++) {
        uint32_t four;
        std::memcpy(&four, group.levels + 4 * step, 4);
        if (kQ8Offset != 0) four ^= 0x80808080u;
        std::memcpy(out + (step * kTileOutputs + lane) * 4, &four, 4);
      }
    }
  }
}

template <WeightFormat kFormat, bool kTokenScale>
struct BlockTile {
  static constexpr bool kMinimums = BlockTraits<kFormat>::kMinimums;
  static constexpr int kParts = BlockTraits<kFormat>::kHalves ? 2 : 1;
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int) {
    constexpr int NR = kTileVectors;
    Vec totals[MR][NR];
    startRows<MR, NR>(job, row, column, totals);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* group = job.weights;
    for (int g = 0; g < job.kCount / kQ8Group; g++, group += kGroupBytes<kFormat>, x += kQ8Group) {
      for (int part = 0; part < kParts; part++) addPart<MR>(group, part, firstGroup + g, x, totals);
    }
    if (job.to != nullptr) return putRows<MR, NR>(job, row, column, totals);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      if (kTokenScale) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) totals[m][j] = mul(totals[m][j], set1(job.x.scales[row + m]));
      }
      finishRow<NR>(job, row + m, column, totals[m]);
    }
  }

  template <int MR>
  MILLRACE_INLINE void addPart(const uint8_t* group, int part, int64_t firstGroup, const uint8_t* x, Vec (&totals)[MR][kTileVectors]) {
    constexpr int NR = kTileVectors, steps = 8 / kParts;
    Sum sums[MR][NR];
    int32_t sumOfX[MR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      const int32_t* halves = job.x.halfSums + (firstGroup + m * job.x.groups) * 2;
      sumOfX[m] = kParts == 2 ? halves[part] : halves[0] + halves[1];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = startSum(-kQ8Offset * sumOfX[m]);
    }
    const uint8_t* w = group + kTileOutputs * 4 * kParts * (kMinimums ? 2 : 1) + (part * steps * kTileOutputs + column) * 4;
    for (int step = 0; step < steps; step++, w += kStepBytes) {
      Weights weights[NR];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) weights[j] = prepare(w + j * kLanes * 4);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = dot4(sums[m][j], weights[j], x + m * job.x.stride + part * 16 + step * 4);
      }
    }
    const float* scales = reinterpret_cast<const float*>(group) + part * kTileOutputs + column;
    const float* minimums = scales + kParts * kTileOutputs;
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      const float scaleOfX = kTokenScale ? 1.0f : job.x.scales[firstGroup + m * job.x.groups];
      const Vec scaledSum = set1(scaleOfX * static_cast<float>(sumOfX[m]));
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        const Vec scale = kTokenScale ? load(scales + j * kLanes) : mul(load(scales + j * kLanes), set1(scaleOfX));
        totals[m][j] = fma(sumToFloat(sums[m][j]), scale, totals[m][j]);
        if (kMinimums) totals[m][j] = fma(load(minimums + j * kLanes), scaledSum, totals[m][j]);
      }
    }
  }
};

enum class Way { floats, int8Group, int8Token };

template <WeightFormat kFormat, Way kWay>
void runPiece(const TileJob& job) {
  if (kWay == Way::floats) return floatKernel(WeightFormat::f32)(job);
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kInt8TileRows>(job.rowBegin, job.rowEnd, BlockTile<kFormat, kWay == Way::int8Token>{job, column});
}

// A whole segment of a tile: in pieces when their sums fit beside them.
template <WeightFormat kFormat, Way kWay>
void runTile(const TileJob& segment) {
  Scratch& own = scratch();
  if (segment.numOutputs < kTileOutputs) std::memset(own.weights, 0, sizeof own.weights);
  const int rows = segment.rowEnd - segment.rowBegin, end = segment.kBegin + segment.kCount;
  const int pieceSteps = rows <= kFewRows ? kPieceSteps : segment.kCount;
  TileJob job = segment;
  job.aheadLines = 0;
  for (int begin = segment.kBegin; begin < end; begin += pieceSteps) {
    const int count = smaller(pieceSteps, end - begin);
    const uint8_t* stored = segment.weights + bytesOf(kFormat, begin - segment.kBegin);
    if (kWay == Way::floats) unpackToFloats<kFormat>(job, stored, count / 32, own.weights);
    else unpackToInt8<kFormat>(job, stored, count / 32, own.weights);
    job.weights = own.weights;
    job.kBegin = begin;
    job.kCount = count;
    // sums are indexed by row, which may not begin at 0
    job.from = begin == segment.kBegin ? nullptr : own.sums - int64_t{segment.rowBegin} * kTileOutputs;
    job.to = begin + count < end ? own.sums - int64_t{segment.rowBegin} * kTileOutputs : nullptr;
    runPiece<kFormat, kWay>(job);
  }
}

struct PickKernel {
  Activation activation;
  TileKernel kernel = nullptr;
  template <WeightFormat kFormat>
  void run() {
    if constexpr (isFloatGroups(kFormat)) kernel = runTile<kFormat, Way::floats>;
    else if (activation == Activation::int8Group32) kernel = runTile<kFormat, Way::int8Group>;
    else if (activation == Activation::int8Token) kernel = runTile<kFormat, Way::int8Token>;
    else kernel = runTile<kFormat, Way::floats>;
  }
};

struct UnpackRow {
  const uint8_t* row;
  int32_t k;
  float* out;
  template <WeightFormat kFormat>
  void run() {
    for (int g = 0; g < k / 32; g++) readValues<kFormat>(row, g, out + g * 32);
  }
};

}  // namespace

TileKernel blockKernel(WeightFormat format, Activation activation) {
  PickKernel pick{activation};
  withBlockFormat(format, pick);
  return pick.kernel;
}

void unpackBlockRow(WeightFormat format, const uint8_t* row, int32_t k, float* out) { withBlockFormat(format, UnpackRow{row, k, out}); }

}  // namespace millrace::cpu::MILLRACE_ISA
