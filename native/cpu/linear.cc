// linear: y[t, n] = sum_k round(x[t, k]) * weight[n, k] + bias[n], for one to thousands of rows.
//
// K is cut into segments of kLinearSegment; a segment of an output is summed from zero, step by step, in one lane (linear.h); segments are
// added into y in order, the bias last. So an output is the same function of its row at every row count, tile shape and thread count.
//
// Work split:
//   up to 64 rows   runs of tiles of 64 outputs; all rows meet a piece of a tile while the next one streams in: each weight byte leaves DRAM once
//   more            blocks of rows by groups of tiles; a segment of the rows (about kRowBlockBytes) stays in L2 while the group's tiles pass
#include "linear.h"
#include "linear_table.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kTilesPerGroup = 4;
constexpr int64_t kItemsPerThread = 8;       // smaller groups rather than fewer: the last items end together
constexpr int64_t kRowBlockBytes = 384 * 1024;
constexpr int64_t kPieceBytes = 16 * 1024;   // of weights, when few rows come in several blocks: the later blocks find them in L1
constexpr int64_t kStreamAhead = 2048;       // bytes fetched ahead when each weight is used once

bool isInt8(Activation activation) { return activation == Activation::int8Group32 || activation == Activation::int8Token; }

#define MILLRACE_TEXT_OF(x) #x
#define MILLRACE_TEXT(x) MILLRACE_TEXT_OF(x)
#define MILLRACE_KERNEL_NAME(what) "linear_" what "_" MILLRACE_TEXT(MILLRACE_ISA)

const char* floatName(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32: return MILLRACE_KERNEL_NAME("f32");
    case WeightFormat::f16: return MILLRACE_KERNEL_NAME("f16_by_f32");
    case WeightFormat::bf16: return MILLRACE_KERNEL_NAME("bf16_by_f32");
    case WeightFormat::q8_0: return MILLRACE_KERNEL_NAME("q8_0_by_f32");
    case WeightFormat::q4_0: return MILLRACE_KERNEL_NAME("q4_0_by_f32");
    default: return "";
  }
}

const char* blockName(WeightFormat format, bool int8) {
  switch (format) {
#define MILLRACE_FORMAT(name, elements, bytes) \
  case WeightFormat::name: return int8 ? MILLRACE_KERNEL_NAME(#name "_by_int8") : MILLRACE_KERNEL_NAME(#name "_by_f32");
    MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
    case WeightFormat::count: break;
  }
  return "";
}

// "unpack": no kernel of its own, a tile at a time is expanded (linear_blocks.cc).
const char* unpackName(WeightFormat format, bool int8) {
  switch (format) {
#define MILLRACE_FORMAT(name, elements, bytes) \
  case WeightFormat::name: return int8 ? MILLRACE_KERNEL_NAME("unpack_" #name "_by_int8") : MILLRACE_KERNEL_NAME("unpack_" #name "_by_f32");
    MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
    case WeightFormat::count: break;
  }
  return "";
}

}  // namespace

Choice choose(WeightFormat format, Activation activation) {
  if (format == WeightFormat::bf16 && activation == Activation::bf16 && bf16Kernel() != nullptr)
    return {bf16Kernel(), Stored::bf16, 0, MILLRACE_KERNEL_NAME("bf16_by_bf16")};
  if (format == WeightFormat::q8_0 && isInt8(activation))
    return {int8Kernel(activation == Activation::int8Token), Stored::int8, kQ8Offset, MILLRACE_KERNEL_NAME("q8_0_by_int8")};
  if (format == WeightFormat::q4_0 && isInt8(activation))
    return {nibbleKernel(activation == Activation::int8Token), Stored::int8, kQ4Offset, MILLRACE_KERNEL_NAME("q4_0_by_int8")};
  if (isPackedByFields(format)) {
    const bool halves = format == WeightFormat::q6_k;
    if (isInt8(activation)) return {fieldsKernel(format, activation), halves ? Stored::int8WithHalfSums : Stored::int8, -1, blockName(format, true)};
    return {fieldsKernel(format, activation), Stored::f32, 0, blockName(format, false)};
  }
  if (keptAsStored(format)) {
    const bool int8 = isInt8(activation) && !hasFloatLevels(format);
    return {blockKernel(format, activation), int8 ? Stored::int8WithHalfSums : Stored::f32, kQ8Offset, unpackName(format, int8)};
  }
  return {floatKernel(format), Stored::f32, 0, floatName(format)};
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
    if (keptAsStored(args.weight->format)) job.rowStride = bytesOf(args.weight->format, args.weight->k);
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

// One block of rows streams through the segment; more blocks take it in pieces, and each block fetches its share of the next piece, so that memory and
// arithmetic overlap.
void runPieces(WeightFormat format, const Choice& choice, TileJob job, float* sums) {
  if (keptAsStored(format)) return choice.kernel(job);  // takes its own pieces
  const bool isInt8 = choice.stored == Stored::int8 || choice.stored == Stored::int8WithHalfSums;
  const int rowsPerBlock = isInt8 ? kInt8TileRows : kMaxTileRows;
  const int blocks = static_cast<int>(ceilDiv(job.rowEnd, rowsPerBlock)), linesPerStep = format == WeightFormat::f16 ? 2 : 4;
  if (blocks == 1) {
    job.ahead = job.weights + kStreamAhead;
    job.aheadLines = linesPerStep;
    job.aheadBlocks = 1;
    return choice.kernel(job);
  }
  const int32_t end = job.kBegin + job.kCount, unit = larger(kQ8Group, blockSize(format).elements);
  const int32_t pieceSteps = static_cast<int32_t>(larger<int64_t>(1, kPieceBytes / stepsBytes(format, unit)) * unit);
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

void runFewRows(const Call& call, ThreadPool& pool) {
  const int64_t run = larger<int64_t>(1, smaller<int64_t>(16, call.numTiles / (pool.numThreads() * 8)));
  pool.parallel(ceilDiv(call.numTiles, run), [&](int64_t item, int) {
    alignas(64) float sums[kFewRows * kTileOutputs];
    for (int64_t tile = item * run; tile < smaller(call.numTiles, (item + 1) * run); tile++)
      for (int64_t turn = 0; turn < call.numSegments; turn++) runPieces(call.args.weight->format, call.choice, call.job(tile, turn, 0, call.args.rows), sums);
  });
}

void runManyRows(const Call& call, ThreadPool& pool) {
  const int64_t rows = call.args.rows;
  const int64_t bytesPerRow = smaller<int64_t>(call.x.stride, kLinearSegment * (call.choice.stored == Stored::f32 ? 4 : call.choice.stored == Stored::bf16 ? 2 : 1));
  const int64_t mostRows = larger<int64_t>(kMaxTileRows, kRowBlockBytes / bytesPerRow);
  const int64_t blocks = ceilDiv(rows, mostRows), rowsPerBlock = roundUp(ceilDiv(rows, blocks), kMaxTileRows);
  int64_t tilesPerGroup = kTilesPerGroup;
  while (tilesPerGroup > 1 && ceilDiv(call.numTiles, tilesPerGroup) * ceilDiv(rows, rowsPerBlock) < kItemsPerThread * pool.numThreads()) tilesPerGroup /= 2;
  const int64_t groups = ceilDiv(call.numTiles, tilesPerGroup);
  pool.parallel(groups * ceilDiv(rows, rowsPerBlock), [&](int64_t item, int) {
    const int64_t tileBegin = item % groups * tilesPerGroup, tileEnd = smaller(call.numTiles, tileBegin + tilesPerGroup);
    const int64_t rowBegin = item / groups * rowsPerBlock, rowEnd = smaller(rows, rowBegin + rowsPerBlock);
    for (int64_t turn = 0; turn < call.numSegments; turn++)
      for (int64_t tile = tileBegin; tile < tileEnd; tile++) call.choice.kernel(call.job(tile, turn, rowBegin, rowEnd));
  });
}

}  // namespace

size_t linearScratchBytes(int32_t maxRows, int32_t k) {
  const int64_t row = roundUp(roundUp(k, kQ8Group) * 4, 64) + 64, groups = ceilDiv(k, kQ8Group);
  return static_cast<size_t>((row + groups * 16) * maxRows + 64);
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
