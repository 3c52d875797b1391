// linear: y[t, n] = sum_k round(x[t, k]) * weight[n, k] + bias[n], for one to thousands of rows.
//
// K is cut into segments of kLinearSegment; a segment of an output is summed from zero, step by step, in one lane (linear.h); segments are
// added into y in order, the bias last. So an output is the same function of its row at every row count, tile shape and thread count.
//
// Work split:
//   up to 64 rows   each thread streams its own share of the tiles of 64 outputs, and who is done takes half of what another has left; all rows meet a piece
//                   of a tile while the next one streams in: each weight byte leaves DRAM once. Threads that wait fetch the beginning of the next matrix
//   more            blocks of rows by groups of tiles. By int8 a tile takes all its segments in pieces that stay in L1 while the rows stream past, what comes
//                   next being fetched meanwhile; otherwise a segment of the rows (about kRowBlockBytes) stays in L2 while the group's tiles pass
#include "linear.h"
#include "linear_table.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kTilesPerGroup = 4;
constexpr int64_t kItemsPerThread = 8;       // smaller groups rather than fewer: the last items end together
constexpr int64_t kRowBlockBytes = 384 * 1024;
constexpr int64_t kPieceBytes = 16 * 1024;   // of weights, when few rows come in several blocks: the later blocks find them in L1
constexpr int64_t kManyRowsPiece = 256;      // steps of K whose weights many rows find in L1; twice as many of 4 bits
constexpr int64_t kInt8RowsPerBlock = 264;   // a multiple of every kernel's rows
constexpr int64_t kStreamAhead = 2048;       // bytes fetched ahead when each weight is used once

bool isInt8(Activation activation) { return activation == Activation::int8Group32 || activation == Activation::int8Token; }

#define MILLRACE_TEXT_OF(x) #x
#define MILLRACE_TEXT(x) MILLRACE_TEXT_OF(x)
#define MILLRACE_KERNEL_NAME(what) "linear_" what "_" MILLRACE_TEXT(MILLRACE_ISA)

const char* kernelName(WeightFormat format, Stored by) {
  switch (format) {
#define MILLRACE_FORMAT(name, elements, bytes) \
  case WeightFormat::name:                     \
    return by == Stored::f32 ? MILLRACE_KERNEL_NAME(#name "_by_f32") : by == Stored::bf16 ? MILLRACE_KERNEL_NAME(#name "_by_bf16") : MILLRACE_KERNEL_NAME(#name "_by_int8");
    MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
    case WeightFormat::count: break;
  }
  return "";
}

// Formats whose scales, or minimums, are of 16.
bool readsHalves(WeightFormat f) {
  return f == WeightFormat::q2_k || f == WeightFormat::q3_k || f == WeightFormat::q6_k || f == WeightFormat::iq2_xs || f == WeightFormat::iq2_s || f == WeightFormat::iq1_m;
}

}  // namespace

// By format and activation; which tile a kernel computes for how many rows is in its own file.
//   bf16 by bf16, FP8 by bf16   vdpbf16ps, where the set has it; else x is rounded and goes on as f32
//   q8_0, q4_0 by int8          as packed, 1 to 3 rows (1 or 2 without AVX-512) at a time
//   int8_channel by int8        as packed, 1 to 6 rows (1 to 4 without AVX-512) where x has a scale a token, else as q8_0
//   other integers by int8      1 row as packed; more: a piece of a tile is expanded to 8 bits first
//   all others                  f32: f32, f16, bf16, q8_0 and q4_0 are widened as they are read, the rest as a whole piece from 2 rows on
Choice choose(WeightFormat format, Activation activation) {
  const bool tokenScale = activation == Activation::int8Token;
  TileKernel kernel = nullptr;
  if (activation == Activation::bf16) {
    if (format == WeightFormat::bf16) kernel = bf16Kernel();
    if (hasFloatLevels(format)) kernel = floatGroupKernel(format, Stored::bf16);
    if (kernel != nullptr) return {kernel, Stored::bf16, 0, kernelName(format, Stored::bf16), kMaxTileRows};
  }
  if (isInt8(activation)) {
    const char* name = kernelName(format, Stored::int8);
    if (format == WeightFormat::q8_0) return {int8Kernel(tokenScale), Stored::int8, kQ8Offset, name, kInt8TileRows};
    if (format == WeightFormat::q4_0) return {nibbleKernel(tokenScale), Stored::int8, kQ4Offset, name, kInt8TileRows};
    if (format == WeightFormat::int8_channel) return {channelKernel(activation), Stored::int8, kQ8Offset, name, tokenScale ? kChannelTileRows : kInt8TileRows};
    if (isPackedByFields(format)) return {fieldsKernel(format, activation), readsHalves(format) ? Stored::int8WithHalfSums : Stored::int8, -1, name, kInt8TileRows};
  }
  kernel = format == WeightFormat::int8_channel ? channelKernel(activation) : hasFloatLevels(format) ? floatGroupKernel(format, Stored::f32) : isPackedByFields(format) ? fieldsKernel(format, activation) : floatKernel(format);
  return {kernel, Stored::f32, 0, kernelName(format, Stored::f32), format == WeightFormat::int8_channel ? kChannelFloatRows : kMaxTileRows};
}

namespace {

// One call, with what its tiles share.
struct Call {
  const LinearArgs& args;
  Choice choice;
  RoundedRows x;
  int64_t numTiles, bytesPerTile, paddedColumns;
  int64_t segment, numSegments;
  bool backwards;

  // Segment number `turn` (0 first) of one tile for some rows.
  TileJob job(int64_t tile, int64_t turn, int64_t rowBegin, int64_t rowEnd) const {
    const int64_t begin = (backwards ? numSegments - 1 - turn : turn) * segment;
    TileJob job{};
    job.weights = args.weight->data + tile * bytesPerTile + stepsBytes(args.weight->format, begin);
    job.channelScales = channelScalesOf(args.weight->format, args.weight->data + tile * bytesPerTile, paddedColumns);
    job.x = x;
    job.kBegin = static_cast<int32_t>(begin);
    job.kCount = static_cast<int32_t>(smaller(segment, paddedColumns - begin));
    job.rowBegin = static_cast<int32_t>(rowBegin);
    job.rowEnd = static_cast<int32_t>(rowEnd);
    job.y = args.y.data + tile * kTileOutputs;
    job.yStride = args.y.stride;
    job.numOutputs = static_cast<int32_t>(smaller<int64_t>(kTileOutputs, args.weight->n - tile * kTileOutputs));
    job.first = turn == 0;
    job.bias = args.bias != nullptr && turn == numSegments - 1 ? args.bias + tile * kTileOutputs : nullptr;
    return job;
  }
};

}  // namespace

// Steps of K in a piece.
int32_t pieceOf(WeightFormat format) {
  if (format == WeightFormat::int8_channel) return kLinearSegment;  // a tile of dot products alone hides that later blocks find weights in L2
  const int32_t unit = larger(kQ8Group, blockSize(format).elements);
  return static_cast<int32_t>(larger<int64_t>(1, kPieceBytes / stepsBytes(format, unit)) * unit);
}

// One block of rows streams through the segment; more blocks take it in pieces, and each block fetches its share of the next piece, so that memory and
// arithmetic overlap.
void runPieces(WeightFormat format, const Choice& choice, TileJob job, float* sums) {
  if ((isPackedByFields(format) || hasFloatLevels(format)) && job.rowEnd > 1) return choice.kernel(job);  // takes its own pieces
  const int blocks = static_cast<int>(ceilDiv(job.rowEnd, choice.tileRows)), linesPerStep = format == WeightFormat::f16 ? 2 : 4;
  if (blocks == 1) {
    job.ahead = job.weights + kStreamAhead;
    job.aheadLines = linesPerStep;
    job.aheadBlocks = 1;
    return choice.kernel(job);
  }
  const int32_t end = job.kBegin + job.kCount, pieceSteps = pieceOf(format);
  const uint8_t* weights = job.weights;
  for (int32_t begin = job.kBegin; begin < end; begin += pieceSteps) {
    job.weights = weights;
    job.kBegin = begin;
    job.kCount = smaller(pieceSteps, end - begin);
    weights += stepsBytes(format, job.kCount);
    job.from = job.to;
    job.to = begin + pieceSteps < end ? sums : nullptr;
    job.ahead = weights;
    job.aheadLines = static_cast<int32_t>(ceilDiv(linesPerStep, blocks));
    job.aheadBlocks = linesPerStep / job.aheadLines;
    job.aheadPerBlock = stepsBytes(format, job.kCount) / job.aheadBlocks;
    choice.kernel(job);
  }
}

namespace {

// The tiles of a matrix are one stream, and each thread's share of them a stream of its own. Meanwhile the next matrix may be fetched.
void runFewRows(const Call& call, ThreadPool& pool) {
  if (call.args.next != nullptr) {
    const PackedMatrix& next = *call.args.next;
    pool.willRead(next.data, ceilDiv(next.n, kTileOutputs), tileBytes(next.format, next.k));
  }
  pool.parallelInShares(call.numTiles, [&](int64_t tile, int) {
    alignas(64) float sums[kFewRows * kTileOutputs];
    for (int64_t turn = 0; turn < call.numSegments; turn++) runPieces(call.args.weight->format, call.choice, call.job(tile, turn, 0, call.args.rows), sums);
  });
}

bool readsInt8(const Call& call) { return call.choice.stored == Stored::int8 || call.choice.stored == Stored::int8WithHalfSums; }

// Sums of a block of rows between the pieces of a segment and between segments, for one tile: closer than y, whose rows may be a power of two apart.
struct BlockSums {
  alignas(64) float pieces[kInt8RowsPerBlock * kTileOutputs];
  alignas(64) float segments[kInt8RowsPerBlock * kTileOutputs];
};

// A segment in pieces that stay in L1 while the rows pass, each with the next one on its way.
void runManyPieces(const Call& call, TileJob job, float* sums) {
  const WeightFormat format = call.args.weight->format;
  job.fetchesRows = true;
  // The first takes its own pieces; the tile of the second is dot products alone and hides that weights come from L2.
  if (isPackedByFields(format) || format == WeightFormat::int8_channel) return call.choice.kernel(job);
  const int64_t steps = format == WeightFormat::q4_0 ? 2 * kManyRowsPiece : kManyRowsPiece;
  const int64_t end = job.kBegin + job.kCount, bytes = stepsBytes(format, steps), blocks = ceilDiv(job.rowEnd - job.rowBegin, kInt8TileRows);
  job.nextLines = static_cast<int32_t>(ceilDiv(bytes, 64 * blocks));
  for (int64_t begin = job.kBegin; begin < end; begin += steps) {
    job.kBegin = static_cast<int32_t>(begin);
    job.kCount = static_cast<int32_t>(smaller<int64_t>(steps, end - begin));
    job.from = job.to;
    job.to = begin + steps < end ? sums - int64_t{job.rowBegin} * kTileOutputs : nullptr;
    job.next = job.weights + stepsBytes(format, job.kCount);
    job.nextEnd = job.next + bytes;
    call.choice.kernel(job);
    job.weights = job.next;
  }
}

// int8: all segments of a tile in turn, their sums beside y.
void runInt8Block(const Call& call, int64_t tileBegin, int64_t tileEnd, int64_t rowBegin, int64_t rowEnd) {
  alignas(64) static thread_local BlockSums sums;
  float* between = sums.segments - rowBegin * kTileOutputs;
  for (int64_t tile = tileBegin; tile < tileEnd; tile++) {
    for (int64_t turn = 0; turn < call.numSegments; turn++) {
      TileJob job = call.job(tile, turn, rowBegin, rowEnd);
      job.before = between;
      if (turn + 1 < call.numSegments) {
        job.y = between;
        job.yStride = kTileOutputs;
      }
      runManyPieces(call, job, sums.pieces);
    }
  }
}

void runManyRows(const Call& call, ThreadPool& pool) {
  const int64_t rows = call.args.rows;
  const bool byInt8 = readsInt8(call);
  const int64_t bytesPerRow = smaller<int64_t>(call.x.stride, kLinearSegment * (call.choice.stored == Stored::f32 ? 4 : 2));
  const int64_t mostRows = byInt8 ? kInt8RowsPerBlock : larger<int64_t>(kMaxTileRows, kRowBlockBytes / bytesPerRow);
  const int64_t blocks = ceilDiv(rows, mostRows), rowsPerBlock = roundUp(ceilDiv(rows, blocks), kMaxTileRows);
  int64_t tilesPerGroup = kTilesPerGroup;
  while (tilesPerGroup > 1 && ceilDiv(call.numTiles, tilesPerGroup) * ceilDiv(rows, rowsPerBlock) < kItemsPerThread * pool.numThreads()) tilesPerGroup /= 2;
  const int64_t groups = ceilDiv(call.numTiles, tilesPerGroup);
  pool.parallel(groups * ceilDiv(rows, rowsPerBlock), [&](int64_t item, int) {
    const int64_t tileBegin = item % groups * tilesPerGroup, tileEnd = smaller(call.numTiles, tileBegin + tilesPerGroup);
    const int64_t rowBegin = item / groups * rowsPerBlock, rowEnd = smaller(rows, rowBegin + rowsPerBlock);
    if (byInt8) return runInt8Block(call, tileBegin, tileEnd, rowBegin, rowEnd);
    for (int64_t turn = 0; turn < call.numSegments; turn++)
      for (int64_t tile = tileBegin; tile < tileEnd; tile++) call.choice.kernel(call.job(tile, turn, rowBegin, rowEnd));
  });
}

}  // namespace

size_t linearScratchBytes(int32_t maxRows, int32_t k) {
  const int64_t row = roundUp(roundUp(k, kQ8Group) * 4, 64) + 64, groups = ceilDiv(k, kQ8Group);
  return static_cast<size_t>((row + groups * 16 + 4) * maxRows + 64);
}

void linear(const LinearArgs& args, ThreadPool& pool) {
  if (args.rows == 0) return;
  const PackedMatrix& w = *args.weight;
  const bool manyRows = args.rows > kFewRows;
  Call call{args, choose(w.format, args.activation), {}, ceilDiv(w.n, kTileOutputs), tileBytes(w.format, w.k), paddedK(w.format, w.k), kLinearSegment, 0, false};
  if (args.plantedOrderFault && manyRows) {  // shorter segments, last first: what the contract forbids, seen from two segments up
    call.segment = kLinearSegment / 4;
    call.backwards = true;
  }
  call.numSegments = ceilDiv(call.paddedColumns, call.segment);
  call.x = roundActivations(args, call.choice.stored, call.choice.offset, pool);
  if (manyRows) runManyRows(call, pool);
  else runFewRows(call, pool);
  if (args.counters != nullptr) {
    args.counters->linearRowClass[args.rows == 1 ? 0 : args.rows <= 8 ? 1 : manyRows ? 3 : 2]++;
    args.counters->linearSegments += static_cast<uint64_t>(call.numSegments);
  }
}

const char* linearName(WeightFormat format, Activation activation) { return choose(format, activation).name; }

bool linearSupports(WeightFormat, Activation) { return true; }

}  // namespace millrace::cpu::MILLRACE_ISA
