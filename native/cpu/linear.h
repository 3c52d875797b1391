// What the files of `linear` share: the packed layout, the job that one kernel call does, and the rounded activations. Private to linear*.cc.
//
// Packed layout: tiles of 64 outputs. Inside a tile K runs slowest and output o is lane o, so that one broadcast element of x meets 64 weights that
// lie side by side, and an output is the sum of one lane in the order of K, whatever the number of rows.
//   f32   [k][64]                  f32
//   f16   [k][64]                  f16
//   bf16  [k / 2][64][2]           bf16, pairs of K side by side (what vdpbf16ps reads)
//   q8_0  [k / 32]{ [64] f16 scales; [8][64][4] int8 }, four steps of K side by side (what vpdpbusd reads); stored + 128 where there is VNNI
//   q4_0  [k / 32]{ [64] f16 scales; [4][64][4] bytes }, steps k.. in the low nibbles and k + 16.. in the high ones
//   int8_channel  [k / 4][64][4] int8 as of q8_0, then [64] f32 scales
//   blocks of other formats             [k / elements of a block]{ the fields of 64 blocks, as field_layout.h says }
// Lanes beyond n and steps beyond k are zero.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

constexpr int kTileOutputs = 64;
constexpr int kQ8Group = 32;
constexpr int kQ8GroupBytes = kTileOutputs * 2 + kTileOutputs * kQ8Group;
constexpr int kQ4GroupBytes = kTileOutputs * 2 + kTileOutputs * kQ8Group / 2;
constexpr int kQ4Offset = 8;
#if defined(MILLRACE_VNNI)
constexpr int kQ8Offset = 128;  // vpdpbusd multiplies unsigned by signed: weights carry + 128, taken back by -128 * (sum of the group of x)
#else
constexpr int kQ8Offset = 0;
#endif

MILLRACE_INLINE int64_t paddedK(WeightFormat format, int64_t k) {
  return format == WeightFormat::bf16 ? roundUp(k, 2) : roundUp(k, blockSize(format).elements);
}
// Bytes of `k` steps of a tile; k is a multiple of the format's padding.
MILLRACE_INLINE int64_t stepsBytes(WeightFormat format, int64_t k) {
  switch (format) {
    case WeightFormat::f32: return k * kTileOutputs * 4;
    case WeightFormat::f16:
    case WeightFormat::bf16: return k * kTileOutputs * 2;
    case WeightFormat::q8_0: return k / kQ8Group * kQ8GroupBytes;
    case WeightFormat::q4_0: return k / kQ8Group * kQ4GroupBytes;
    case WeightFormat::int8_channel: return k * kTileOutputs;
    default: return bytesOf(format, k) * kTileOutputs;
  }
}
// int8_channel has the scales of a tile's outputs behind its steps.
constexpr int kChannelScaleBytes = kTileOutputs * 4;
MILLRACE_INLINE int64_t tileBytes(WeightFormat format, int64_t k) {
  return roundUp(stepsBytes(format, paddedK(format, k)) + (format == WeightFormat::int8_channel ? kChannelScaleBytes : 0), 64);
}
MILLRACE_INLINE const float* channelScalesOf(WeightFormat format, const uint8_t* tile, int64_t paddedColumns) {
  return format == WeightFormat::int8_channel ? reinterpret_cast<const float*>(tile + stepsBytes(format, paddedColumns)) : nullptr;
}

// How x lies in scratch for a kernel.
enum class Stored { f32, bf16, int8, int8WithHalfSums };

// The activations of one call, rounded or quantised once. Consecutive rows are `stride` bytes apart; columns are zero up to a multiple of 4
// (f32, bf16) or are whole groups (int8).
struct RoundedRows {
  const uint8_t* data;
  int64_t stride;
  // int8: the scale of each group, and -offset * (sum of its values). Under int8-token scales are 1 and the row's own scale stands apart.
  const float* scales;
  const int32_t* corrections;
  int64_t groups;           // groups of 32 in a row
  const int32_t* halfSums;  // int8WithHalfSums: sums of the values of each half of a group
  const float* rowScales;   // int8-token: of each row; else null
};

// Writes the rows of args.x as `stored` under args.activation into args.scratch. f32 values under f32 may be read in place.
// `offset` is what the kernel's int8 weights carry on top.
// With `gather`, row r of the result is slot gather.rows[r] % slots of row gather.rows[r] / slots, slots being slotStride floats apart.
struct Gather {
  const int32_t* rows;
  int32_t slots;
  int64_t slotStride;
};
RoundedRows roundActivations(const LinearArgs& args, Stored stored, int32_t offset, ThreadPool& pool, const Gather* gather = nullptr);

// A piece of one segment of K of one tile, for a run of rows. Sums begin at zero, or at `from`; they go on to `to`, or, when that is null, into y:
// y = sum when `first`, else y + sum; then + bias where bias is not null. Cutting a segment into pieces changes no bit: the sums are only put down.
struct TileJob {
  const uint8_t* weights;   // first step of the piece
  const float* channelScales;  // int8_channel: of the tile's outputs; else null
  RoundedRows x;            // whole rows; the piece starts at column kBegin
  int32_t kBegin, kCount;   // kCount is padded as the format asks
  int32_t rowBegin, rowEnd;
  const float* from;        // [rows, 64]
  float* to;                // [rows, 64]
  float* y;                 // row 0, first output of the tile
  int64_t yStride;
  int32_t numOutputs;       // at most 64
  bool first;
  const float* before;      // [rows, 64]: what sums are added to unless `first`; null: y itself
  const float* bias;        // of this tile, or null
  // Weights needed soon, fetched while these are multiplied: block b of rows fetches from ahead + b * aheadPerBlock, aheadLines cache lines
  // for each kStepBytes of weights that it reads.
  const uint8_t* ahead;
  int32_t aheadLines, aheadBlocks;
  int64_t aheadPerBlock;
  // Many rows: each block of rows fetches x and sums of the block after it, and nextLines cache lines of the weights of the next piece.
  bool fetchesRows;
  int32_t nextLines;
  const uint8_t *next, *nextEnd;
};
constexpr int kStepBytes = 256;

using TileKernel = void (*)(const TileJob&);

// linear_float.cc: x as f32. linear_bf16.cc: bf16 by bf16. linear_q8_0.cc, linear_q4_0.cc: by int8. Null where the set has no such kernel.
TileKernel floatKernel(WeightFormat format);
TileKernel bf16Kernel();
TileKernel int8Kernel(bool tokenScale);
TileKernel nibbleKernel(bool tokenScale);
// int8_channel by whatever `activation` makes of x: int8, or f32 (linear_int8_channel.cc).
TileKernel channelKernel(Activation activation);
void packChannels(uint8_t* tile, int lane, int rows, int32_t k, const uint8_t* source);
void unpackChannel(const uint8_t* tile, int lane, int32_t k, float* out);
// Formats packed by fields, any x; rows into their tile, and one back as f32 (linear_fields.cc, linear_super_blocks.cc, linear_int_groups.cc, linear_code_books.cc).
TileKernel fieldsKernel(WeightFormat format, Activation activation);
TileKernel superBlockKernel(WeightFormat format, Activation activation);
TileKernel integerGroupKernel(WeightFormat format, Activation activation);
TileKernel codeBookKernel(WeightFormat format, Activation activation);
// FP8 and NF4, x as f32 or, where the set has such a kernel, bf16; else null (linear_float_groups.cc).
TileKernel floatGroupKernel(WeightFormat format, Stored stored);
void packFields(WeightFormat format, uint8_t* tile, int lane, int rows, int32_t k, const uint8_t* source);
void unpackFields(WeightFormat format, const uint8_t* tile, int lane, int32_t k, float* out);
// A row of stored blocks as f32 (linear_blocks.cc).
void unpackBlockRow(WeightFormat format, const uint8_t* row, int32_t k, float* out);

// The kernel of a format and activation, and how it wants x (linear.cc).
struct Choice {
  TileKernel kernel;
  Stored stored;
  int32_t offset;  // of int8 weights
  const char* name;
  int32_t tileRows;  // most rows in registers at once
};
Choice choose(WeightFormat format, Activation activation);

// Runs a segment of a tile for rows [0, rowEnd), at most kFewRows of them, fetching ahead. `sums` is [kFewRows, 64] of the caller's (linear.cc).
constexpr int kFewRows = 64;
void runPieces(WeightFormat format, const Choice& choice, TileJob job, float* sums);

template <int MR, int NR>
MILLRACE_INLINE void startRows(const TileJob& job, int row, int column, Vec (&sums)[MR][NR]) {
  MILLRACE_UNROLL
  for (int m = 0; m < MR; m++) {
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) sums[m][j] = job.from == nullptr ? zero() : load(job.from + (row + m) * kTileOutputs + column + j * kLanes);
  }
}

// Sums of NR vectors of outputs of one row into y, as TileJob says.
template <int NR>
MILLRACE_INLINE void finishRow(const TileJob& job, int row, int column, const Vec (&sums)[NR]) {
  float* y = job.y + row * job.yStride + column;
  const float* before = job.before != nullptr ? job.before + row * kTileOutputs + column : y;
  MILLRACE_UNROLL
  for (int j = 0; j < NR; j++) {
    const int offset = j * kLanes, lanes = smaller(job.numOutputs - column - offset, kLanes);
    if (lanes <= 0) return;
    Vec v = sums[j];
    if (lanes == kLanes) {
      if (!job.first) v = add(load(before + offset), v);
      if (job.bias != nullptr) v = add(v, load(job.bias + column + offset));
      store(y + offset, v);
    } else {
      if (!job.first) v = add(loadPartial(before + offset, lanes), v);
      if (job.bias != nullptr) v = add(v, loadPartial(job.bias + column + offset, lanes));
      storePartial(y + offset, v, lanes);
    }
  }
}

template <int MR, int NR>
MILLRACE_INLINE void putRows(const TileJob& job, int row, int column, const Vec (&sums)[MR][NR]) {
  MILLRACE_UNROLL
  for (int m = 0; m < MR; m++) {
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) store(job.to + (row + m) * kTileOutputs + column + j * kLanes, sums[m][j]);
  }
}

// Sums of a tile where they belong: down, or times the scales of rows that have one into y.
template <int MR, int NR>
MILLRACE_INLINE void finishTile(const TileJob& job, int row, int column, Vec (&sums)[MR][NR]) {
  if (job.to != nullptr) return putRows<MR, NR>(job, row, column, sums);
  MILLRACE_UNROLL
  for (int m = 0; m < MR; m++) {
    if (job.x.rowScales != nullptr) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = mul(sums[m][j], set1(job.x.rowScales[row + m]));
    }
    finishRow<NR>(job, row + m, column, sums[m]);
  }
}

// Fetches ahead, one step of weights at a time.
struct Fetch {
  const uint8_t* at;
  int lines;
  Fetch(const TileJob& job, int block, int column) : at(job.ahead + block * job.aheadPerBlock), lines(block < job.aheadBlocks && column == 0 ? job.aheadLines : 0) {}
  MILLRACE_INLINE void step() {
    for (int i = 0; i < lines; i++) prefetch(at + i * 64);
    at += lines * 64;
  }
  // What a group holds beside its levels, where a block fetches all that it reads: or it falls behind what is read.
  MILLRACE_INLINE void scales() {
    if (lines < kStepBytes / 64) return;
    prefetch(at);
    prefetch(at + 64);
    at += kTileOutputs * 2;
  }
};

// What many rows need next, for a kernel on int8 x whose block of MR rows begins at `row`. In one go before the block: between products it would cost more.
template <int MR>
MILLRACE_INLINE void fetchNextRows(const TileJob& job, int row, int block) {
  if (!job.fetchesRows) return;
  const uint8_t* x = job.x.data + (row + MR) * job.x.stride + job.kBegin;
  const float* sums = job.from != nullptr ? job.from : job.to;
  for (int m = 0; m < MR && row + MR + m < job.rowEnd; m++, x += job.x.stride) {
    for (int k = 0; k < job.kCount; k += 64) prefetch(x + k);
    if (sums == nullptr) continue;
    for (int j = 0; j < kTileOutputs; j += 16) prefetch(sums + (row + MR + m) * kTileOutputs + j);
  }
  const uint8_t* next = job.next + int64_t{block} * job.nextLines * 64;
  for (int i = 0; i < job.nextLines && next < job.nextEnd; i++, next += 64) prefetch(next);
}

// The tile shape that a kernel computes in registers for `rows` rows: kernels are instantiated for 1..kMaxTileRows rows.
#if defined(MILLRACE_AVX512)
constexpr int kMaxTileRows = 6, kTileVectors = 4;  // 24 sums + 4 weights + 1 broadcast of 32 registers
constexpr int kInt8TileRows = 3;                   // two sets of sums per output live at once
constexpr int kChannelTileRows = 6;                // int8 with one
#elif defined(MILLRACE_NEON)
constexpr int kMaxTileRows = 4, kTileVectors = 4;  // 16 sums + 4 weights of 32 registers
constexpr int kInt8TileRows = 2;
constexpr int kChannelTileRows = 4;
#else
constexpr int kMaxTileRows = 4, kTileVectors = 2;  // 8 sums + 2 weights + what widening them takes, of 16 registers
constexpr int kInt8TileRows = 2;
constexpr int kChannelTileRows = 4;
#endif
constexpr int kChannelFloatRows = 4;               // x as f32: four sums, four levels and what they are made of

// Calls kernel.template run<rows>(firstRow, block) over [begin, end) in blocks of at most Most rows, near equal: 7 rows are 4 + 3, not 6 + 1.
template <int Rows, class Kernel>
MILLRACE_INLINE void runRows(Kernel& kernel, int count, int row, int block) {
  if (count == Rows) kernel.template run<Rows>(row, block);
  else if constexpr (Rows > 1) runRows<Rows - 1>(kernel, count, row, block);
}
template <int Most, class Kernel>
MILLRACE_INLINE void forRowBlocks(int begin, int end, Kernel&& kernel) {
  for (int block = 0; begin < end; block++) {
    const int blocks = (end - begin + Most - 1) / Most, count = (end - begin + blocks - 1) / blocks;
    runRows<Most>(kernel, count, begin, block);
    begin += count;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
