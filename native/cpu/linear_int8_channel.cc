// linear with int8_channel weights: y[t, n] = sw[n] * sx[t] * sum_k qx[t, k] * qw[n, k], with one scale for each output and one for each row of x.
//
// The sum over a segment of K (at most 1,024 steps: below 128 * 127 * 1024 < 2^24) is an exact integer, in int32 as in f32, so pieces of a segment may be put
// down as f32 between them; then f32(sum) * sw * sx joins y. There is no work for groups: a tile is dot products only.
//   AVX-512, AVX-VNNI   vpdpbusd: weights stored + 128 (unsigned) by signed x; sums start at -128 * (sum of x over the piece)
//   AVX2, portable      as linear_int8.h says
// x in int8 groups of 32: the groups of a segment are added in order, fma(f32(sum), sx, total), then times sw. x in f32: one fused multiply-add per step of K
// by the level as f32, then times sw. Layout: linear.h. Work split: linear.cc; a segment is one piece at every row count: its weights come from L2 at little cost,
// where smaller pieces that stay in L1 would have sums put down more often (512 rows: 83 % of the peak in pieces of 256 steps, 91 % in one, one thread, data in L3).
// Measured (bench kernels, beside other work on the machine): AVX-512, 1 row 101 % of the memory bandwidth, 8 rows 81 %, 32 rows 73-75 % and 512 rows 76 % (one thread: 82 %) of the vpdpbusd peak.
#include "linear_int8.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

// Sums of a tile where they belong: down, or times the scales of outputs and rows into y.
template <int MR, int NR>
MILLRACE_INLINE void finishChannels(const TileJob& job, int row, int column, Vec (&sums)[MR][NR]) {
  if (job.to == nullptr) {
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const Vec scale = load(job.channelScales + column + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) sums[m][j] = mul(sums[m][j], scale);
    }
  }
  finishTile<MR, NR>(job, row, column, sums);
}

// The sum of the corrections of `groups` groups.
MILLRACE_INLINE int32_t correctionOf(const int32_t* corrections, int groups) {
  int32_t sum = 0;
  for (int g = 0; g < groups; g++) sum += corrections[g];
  return sum;
}

template <int NR>
struct TokenTile {
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    const int groups = job.kCount / kQ8Group;
    const int32_t* corrections = job.x.corrections + row * job.x.groups + job.kBegin / kQ8Group;
    Sum sums[MR][NR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      const int32_t correction = kQ8Offset == 0 ? 0 : correctionOf(corrections + m * job.x.groups, groups);
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = startSum(correction);
    }
    Fetch fetch(job, block, column);
    fetchNextRows<MR>(job, row, block);
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* w = job.weights + column * 4;
    for (int k = 0; k < job.kCount; k += 4, w += kStepBytes, x += 4) {
      fetch.step();
      Weights weights[NR];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) weights[j] = prepare(w + j * kLanes * 4);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = dot4(sums[m][j], weights[j], x + m * job.x.stride);
      }
    }
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {  // a row at a time: all sums are in registers until then
      Vec totals[1][NR];
      startRows<1, NR>(job, row + m, column, totals);
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) totals[0][j] = add(totals[0][j], sumToFloat(sums[m][j]));
      finishChannels<1, NR>(job, row + m, column, totals);
    }
  }
};

void runTokens(const TileJob& job) {
  if (job.rowEnd - job.rowBegin == 1) {  // more outputs at once: fewer passes over the weights
    constexpr int kMost = kTileOutputs / kLanes <= 8 ? kTileOutputs / kLanes : 8;
    for (int column = 0; column < job.numOutputs; column += kMost * kLanes) TokenTile<kMost>{job, column}.template run<1>(job.rowBegin, 0);
    return;
  }
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kChannelTileRows>(job.rowBegin, job.rowEnd, TokenTile<kTileVectors>{job, column});
}

struct GroupTile {
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec totals[MR][NR];
    startRows<MR, NR>(job, row, column, totals);
    Fetch fetch(job, block, column);
    fetchNextRows<MR>(job, row, block);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* w = job.weights + column * 4;
    for (int g = 0; g < job.kCount / kQ8Group; g++, w += kTileOutputs * kQ8Group, x += kQ8Group) {
      Sum sums[MR][NR];
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = startSum(job.x.corrections[firstGroup + m * job.x.groups + g]);
      }
      for (int k = 0; k < kQ8Group; k += 4) fetch.step();
      dotSteps<MR, 8>(sums, w, x, job.x.stride);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        const Vec scale = set1(job.x.scales[firstGroup + m * job.x.groups + g]);
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) totals[m][j] = fma(sumToFloat(sums[m][j]), scale, totals[m][j]);
      }
    }
    finishChannels<MR, NR>(job, row, column, totals);
  }
};

void runGroups(const TileJob& job) {
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kInt8TileRows>(job.rowBegin, job.rowEnd, GroupTile{job, column});
}

struct FloatTile {
  const TileJob& job;
  int column;

  // Step `s` of the four in a lane, as floats.
  template <int NR>
  static MILLRACE_INLINE void widen(const VecI (&q)[NR], int s, Vec (&out)[NR]) {
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const VecI up = s == 0 ? shiftLeft<24>(q[j]) : s == 1 ? shiftLeft<16>(q[j]) : s == 2 ? shiftLeft<8>(q[j]) : q[j];
      out[j] = intToFloat(shiftRightSigned<24>(up));
    }
  }

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec sums[MR][NR];
    startRows<MR, NR>(job, row, column, sums);
    Fetch fetch(job, block, column);
    fetchNextRows<MR>(job, row, block);
    const uint8_t* x = job.x.data + row * job.x.stride + int64_t{job.kBegin} * 4;
    const uint8_t* w = job.weights + column * 4;
    for (int k = 0; k < job.kCount; k += 4, w += kStepBytes, x += 16) {
      fetch.step();
      VecI q[NR];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        q[j] = loadInt(w + j * kLanes * 4);
        if (kQ8Offset != 0) q[j] = xorInt(q[j], set1Int(static_cast<int32_t>(0x80808080u)));
      }
      MILLRACE_UNROLL
      for (int s = 0; s < 4; s++) {
        Vec level[NR];
        widen<NR>(q, s, level);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) {
          const Vec broadcast = set1(readAs<float>(x + m * job.x.stride + s * 4));
          MILLRACE_UNROLL
          for (int j = 0; j < NR; j++) sums[m][j] = fma(level[j], broadcast, sums[m][j]);
        }
      }
    }
    finishChannels<MR, NR>(job, row, column, sums);
  }
};

void runFloats(const TileJob& job) {
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kChannelFloatRows>(job.rowBegin, job.rowEnd, FloatTile{job, column});
}

constexpr int kStoredBlockBytes = 36;  // f32 scale, then 32 levels

}  // namespace

TileKernel channelKernel(Activation activation) {
  return activation == Activation::int8Token ? runTokens : activation == Activation::int8Group32 ? runGroups : runFloats;
}

void packChannels(uint8_t* tile, int lane, int rows, int32_t k, const uint8_t* source) {
  constexpr uint32_t flip = kQ8Offset != 0 ? 0x80808080u : 0;
  float* scales = reinterpret_cast<float*>(tile + int64_t{k} * kTileOutputs);
  const int64_t rowBytes = int64_t{k} / kQ8Group * kStoredBlockBytes;
  for (int r = 0; r < rows; r++) std::memcpy(scales + lane + r, source + r * rowBytes, 4);
  for (int g = 0; g < k / kQ8Group; g++) {  // the lines of a group stay in cache while its rows are written
    uint8_t* group = tile + int64_t{g} * kQ8Group * kTileOutputs;
    for (int r = 0; r < rows; r++) {
      const uint8_t* in = source + r * rowBytes + int64_t{g} * kStoredBlockBytes + 4;
      for (int step = 0; step < kQ8Group; step += 4) {
        uint32_t four;
        std::memcpy(&four, in + step, 4);
        four ^= flip;
        std::memcpy(group + step * kTileOutputs + (lane + r) * 4, &four, 4);
      }
    }
  }
}

void unpackChannel(const uint8_t* tile, int lane, int32_t k, float* out) {
  float scale;
  std::memcpy(&scale, tile + int64_t{k} * kTileOutputs + lane * 4, 4);
  for (int64_t i = 0; i < k; i++) {
    const uint8_t stored = tile[(i / 4 * kTileOutputs + lane) * 4 + i % 4];
    out[i] = scale * static_cast<float>(static_cast<int8_t>(stored ^ (kQ8Offset != 0 ? 0x80 : 0)));
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
