// head-linear: y[t, h * m + n] = sum_k round(x[t, h * w + k]) * weight[h * m + n, k]: `linear` with a matrix for each head.
//
// The kernels, the packed layout and the order of every sum are those of `linear`; only where a tile finds its columns of x differs. A tile of 64 outputs
// that lies in one head is written in place; where heads are not whole tiles, a tile is computed once for each head that it meets, beside y, and the
// outputs of that head are taken over. Work split: runs of neighbouring tiles by blocks of rows.
#include "linear.h"
#include "linear_table.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int64_t kRowsPerBlock = 48;  // whole blocks of every kernel's rows

struct Call {
  const LinearArgs& args;
  Choice choice;
  RoundedRows x;
  int64_t outputsPerHead, bytesPerTile, paddedColumns;

  // All segments of a tile for rows [rowBegin, rowEnd), under the columns of `head`. `y` is row 0 of where the tile's first output goes.
  void run(int64_t tile, int64_t head, int64_t rowBegin, int64_t rowEnd, float* y, int64_t yStride, int32_t numOutputs) const {
    const PackedMatrix& w = *args.weight;
    for (int64_t begin = 0; begin < paddedColumns; begin += kLinearSegment) {
      TileJob job{};
      job.weights = w.data + tile * bytesPerTile + stepsBytes(w.format, begin);
      job.channelScales = channelScalesOf(w.format, w.data + tile * bytesPerTile, paddedColumns);
      job.x = x;
      job.kBegin = static_cast<int32_t>(begin);
      shiftColumns(job.x, head * w.k);
      job.kCount = static_cast<int32_t>(smaller<int64_t>(kLinearSegment, paddedColumns - begin));
      job.rowBegin = static_cast<int32_t>(rowBegin);
      job.rowEnd = static_cast<int32_t>(rowEnd);
      job.y = y;
      job.yStride = yStride;
      job.numOutputs = numOutputs;
      job.first = begin == 0;
      choice.kernel(job);
    }
  }

  // The rows as if they began at `column`, a multiple of the group where there are groups.
  void shiftColumns(RoundedRows& rows, int64_t column) const {
    switch (choice.stored) {
      case Stored::f32: rows.data += column * 4; return;
      case Stored::bf16: rows.data += column * 2; return;
      default: break;
    }
    rows.data += column;
    rows.scales += column / kQ8Group;
    rows.corrections += column / kQ8Group;
    if (rows.halfSums != nullptr) rows.halfSums += column / kQ8Group * 2;
  }

  void tile(int64_t tile, int64_t rowBegin, int64_t rowEnd) const {
    const int64_t first = tile * kTileOutputs, end = smaller<int64_t>(first + kTileOutputs, args.weight->n);
    const int64_t firstHead = first / outputsPerHead, lastHead = (end - 1) / outputsPerHead;
    if (firstHead == lastHead) return run(tile, firstHead, rowBegin, rowEnd, args.y.data + first, args.y.stride, static_cast<int32_t>(end - first));
    alignas(64) float beside[kRowsPerBlock * kTileOutputs];
    for (int64_t head = firstHead; head <= lastHead; head++) {
      run(tile, head, rowBegin, rowEnd, beside - rowBegin * kTileOutputs, kTileOutputs, kTileOutputs);
      const int64_t from = larger(first, head * outputsPerHead), to = smaller(end, (head + 1) * outputsPerHead);
      for (int64_t r = rowBegin; r < rowEnd; r++)
        std::memcpy(args.y.data + r * args.y.stride + from, beside + (r - rowBegin) * kTileOutputs + (from - first), static_cast<size_t>(to - from) * 4);
    }
  }
};

}  // namespace

void headLinear(const LinearArgs& args, int32_t numHeads, ThreadPool& pool) {
  if (args.rows == 0) return;
  const PackedMatrix& w = *args.weight;
  PackedMatrix all = w;  // x is as wide as all heads together
  all.k = w.k * numHeads;
  LinearArgs rounding = args;
  rounding.weight = &all;
  Call call{args, choose(w.format, args.activation), {}, w.n / numHeads, tileBytes(w.format, w.k), paddedK(w.format, w.k)};
  call.x = roundActivations(rounding, call.choice.stored, call.choice.offset, pool);
  const int64_t numTiles = ceilDiv(w.n, kTileOutputs), blocks = ceilDiv(args.rows, kRowsPerBlock);
  const int64_t run = larger<int64_t>(1, smaller<int64_t>(8, numTiles * blocks / (int64_t{pool.numThreads()} * 8)));
  const int64_t runs = ceilDiv(numTiles, run);
  pool.parallel(runs * blocks, [&](int64_t item, int) {
    const int64_t rowBegin = item / runs * kRowsPerBlock, rowEnd = smaller<int64_t>(args.rows, rowBegin + kRowsPerBlock);
    for (int64_t tile = item % runs * run; tile < smaller(numTiles, (item % runs + 1) * run); tile++) call.tile(tile, rowBegin, rowEnd);
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
