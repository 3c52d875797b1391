// linear: y = round(x) W^T + bias. Each segment of kLinearSegment columns is summed from zero, segments are added in order, then the bias.
//
// bf16 weights with bf16 activations run on tensor cores: x is rounded once into tiles (linear_tiles.h), then
//   few rows (up to 64):  a block an output tile of 8, a warp a segment; weights stream from memory, 16 bytes a lane. Bound by memory: 2 bytes a weight.
//   many rows:            128 x 128 outputs a block, tiles through shared memory in a ring of 4 stages. Bound by the tensor cores.
// Both multiply the same tiles in the same order from zero, so the choice never shows. Everything else (f32 and f16 weights, f32 activations) runs on
// plain multipliers, k after k, at any number of rows.
// Shares of the limits: not measured yet.
#include "launch.h"
#include "kernels.h"
#include "linear_tiles.h"

namespace millrace::cuda {
namespace {

constexpr int kSegmentTiles = kLinearSegment / kTileK;
constexpr int kFewRows = 64;

bool usesTiles(WeightFormat format, Activation activation) { return format == WeightFormat::bf16 && activation == Activation::bf16; }

// One thread a lane of a k16 tile: 8 numbers of x, rounded.
__global__ void roundRowsKernel(ConstRows x, int32_t rows, int32_t k, int32_t kTiles, uint4* out) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t tile = int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp;  // of 16 columns
  if (tile >= int64_t{2} * kTiles) return;
  const int32_t row = static_cast<int32_t>(blockIdx.y) * kTileM + lane / 4, column = static_cast<int32_t>(tile) * 16 + lane % 4 * 2;
  const auto pair = [&](int32_t r, int32_t c) {
    const float* from = x.data + r * x.stride + c;
    return packBf16(r < rows && c < k ? from[0] : 0.0f, r < rows && c + 1 < k ? from[1] : 0.0f);
  };
  const uint4 value = {pair(row, column), pair(row + 8, column), pair(row, column + 8), pair(row + 8, column + 8)};
  out[(int64_t{blockIdx.y} * 2 * kTiles + tile) * kWarp + lane] = value;
}

struct TileArgs {
  const uint4* x;       // activation tiles
  const uint4* weight;  // weight tiles
  Rows y;
  const float* bias;
  int32_t rows, n, kTiles;
};

// Element i of a lane's accumulators: rows g and g + 8, columns 2t and 2t + 1.
MILLRACE_GPU void storeTile(const TileArgs& args, int32_t firstRow, int32_t firstColumn, int lane, const float* total) {
  for (int i = 0; i < 4; i++) {
    const int32_t row = firstRow + lane / 4 + i / 2 * 8, column = firstColumn + lane % 4 * 2 + i % 2;
    if (row < args.rows && column < args.n) args.y.data[row * args.y.stride + column] = total[i] + (args.bias == nullptr ? 0.0f : args.bias[column]);
  }
}

// MTiles tiles of 16 rows against 8 outputs. Warp w of W sums segments w, w + W, ...; warp 0 adds them in order.
template <int MTiles>
__global__ void fewRowsKernel(TileArgs args) {
  MILLRACE_DYNAMIC_SHARED(memory);
  float* sums = reinterpret_cast<float*>(memory);  // [warps][MTiles * 4][32]
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp), numWarps = static_cast<int>(blockDim.x / kWarp);
  const int numSegments = (args.kTiles + kSegmentTiles - 1) / kSegmentTiles;
  const uint4* weight = args.weight + int64_t{blockIdx.x} * args.kTiles * kWarp + lane;
  float total[MTiles * 4] = {};
  for (int first = 0; first < numSegments; first += numWarps) {
    float sum[MTiles][4] = {};
    const int segment = first + warp;
    const int end = (segment + 1) * kSegmentTiles < args.kTiles ? (segment + 1) * kSegmentTiles : args.kTiles;
#pragma unroll 4
    for (int tile = segment * kSegmentTiles; tile < end; tile++) {
      const uint4 b = weight[int64_t{tile} * kWarp];
#pragma unroll
      for (int m = 0; m < MTiles; m++) {
        const uint4* x = args.x + ((int64_t{m} * args.kTiles + tile) * 2) * kWarp + lane;
        const uint4 a = x[0], late = x[kWarp];
        multiplyTile(sum[m], a.x, a.y, a.z, a.w, b.x, b.y);
        multiplyTile(sum[m], late.x, late.y, late.z, late.w, b.z, b.w);
      }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < MTiles * 4; i++) sums[(warp * MTiles * 4 + i) * kWarp + lane] = sum[i / 4][i % 4];
    __syncthreads();
    if (warp != 0) continue;
    const int count = numSegments - first < numWarps ? numSegments - first : numWarps;
    for (int w = 0; w < count; w++)
#pragma unroll
      for (int i = 0; i < MTiles * 4; i++) total[i] += sums[(w * MTiles * 4 + i) * kWarp + lane];
  }
  if (warp == 0)
    for (int m = 0; m < MTiles; m++) storeTile(args, m * kTileM, static_cast<int32_t>(blockIdx.x) * kTileN, lane, total + m * 4);
}

constexpr int kStages = 4;
constexpr int kBlockTilesM = 8, kBlockTilesN = 16;                    // 128 x 128 outputs
constexpr int kManyThreads = 256;                                     // warps: 4 along m, 2 along n, each 32 x 64
constexpr int kStageVectors = kBlockTilesM * 2 * kWarp + kBlockTilesN * kWarp;  // of 16 bytes

// Copies tile column `tile` of the block's rows and outputs into a stage; what lies beyond the matrices is zero.
MILLRACE_GPU void copyStage(const TileArgs& args, uint4* stage, int tile, int64_t tilesM, int64_t tilesN) {
  constexpr int kX = kBlockTilesM * 2 * kWarp;
  const int64_t firstM = int64_t{blockIdx.x} * kBlockTilesM, firstN = int64_t{blockIdx.y} * kBlockTilesN;
  for (int i = static_cast<int>(threadIdx.x); i < kStageVectors; i += kManyThreads) {
    if (i < kX) {
      const int64_t m = firstM + i / (2 * kWarp);
      const bool inside = m < tilesM && tile < args.kTiles;
      copyAsync16(stage + i, args.x + (inside ? (m * args.kTiles + tile) * 2 * kWarp + i % (2 * kWarp) : 0), inside);
    } else {
      const int64_t n = firstN + (i - kX) / kWarp;
      const bool inside = n < tilesN && tile < args.kTiles;
      copyAsync16(stage + i, args.weight + (inside ? (n * args.kTiles + tile) * kWarp + i % kWarp : 0), inside);
    }
  }
  commitCopies();
}

__global__ void __launch_bounds__(kManyThreads) manyRowsKernel(TileArgs args) {
  MILLRACE_DYNAMIC_SHARED(memory);
  uint4* stages = reinterpret_cast<uint4*>(memory);
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int tileM = warp % 4 * 2, tileN = warp / 4 * 8;
  const int64_t tilesM = tilesOf(args.rows, kTileM), tilesN = tilesOf(args.n, kTileN);
  float total[2][8][4] = {}, sum[2][8][4] = {};
  for (int s = 0; s < kStages - 1; s++) copyStage(args, stages + s * kStageVectors, s, tilesM, tilesN);
  for (int tile = 0; tile < args.kTiles; tile++) {
    awaitCopies<kStages - 2>();
    __syncthreads();  // the stage is there for all, and the one to be filled is read no more
    copyStage(args, stages + (tile + kStages - 1) % kStages * kStageVectors, tile + kStages - 1, tilesM, tilesN);
    const uint4* x = stages + tile % kStages * kStageVectors + tileM * 2 * kWarp + lane;
    const uint4* weight = stages + tile % kStages * kStageVectors + kBlockTilesM * 2 * kWarp + tileN * kWarp + lane;
    const uint4 a[2][2] = {{x[0], x[kWarp]}, {x[2 * kWarp], x[3 * kWarp]}};
#pragma unroll
    for (int n = 0; n < 8; n++) {
      const uint4 b = weight[n * kWarp];
#pragma unroll
      for (int m = 0; m < 2; m++) {
        multiplyTile(sum[m][n], a[m][0].x, a[m][0].y, a[m][0].z, a[m][0].w, b.x, b.y);
        multiplyTile(sum[m][n], a[m][1].x, a[m][1].y, a[m][1].z, a[m][1].w, b.z, b.w);
      }
    }
    if ((tile + 1) % kSegmentTiles != 0 && tile + 1 != args.kTiles) continue;
#pragma unroll
    for (int i = 0; i < 64; i++) {
      total[i / 32][i / 4 % 8][i % 4] += sum[i / 32][i / 4 % 8][i % 4];
      sum[i / 32][i / 4 % 8][i % 4] = 0;
    }
  }
  awaitCopies<0>();
#pragma unroll
  for (int m = 0; m < 2; m++)
#pragma unroll
    for (int n = 0; n < 8; n++)
      storeTile(args, static_cast<int32_t>(blockIdx.x) * 128 + (tileM + m) * kTileM, static_cast<int32_t>(blockIdx.y) * 128 + (tileN + n) * kTileN, lane, total[m][n]);
}

void linearTiles(const LinearArgs& args, const Stream& stream) {
  const int32_t k = args.weight.k, kTiles = static_cast<int32_t>(tilesOf(k, kTileK)), tilesM = static_cast<int32_t>(tilesOf(args.rows, kTileM));
  uint4* x = reinterpret_cast<uint4*>(args.scratch);
  constexpr int kWarpsPerBlock = 4;
  launch(roundRowsKernel, {tilesOf(2 * kTiles, kWarpsPerBlock), tilesM}, kWarpsPerBlock * kWarp, 0, stream, args.x, args.rows, k, kTiles, x);
  const TileArgs tiles{x, reinterpret_cast<const uint4*>(args.weight.data), args.y, args.bias, args.rows, args.weight.n, kTiles};
  if (args.rows > kFewRows) {
    launch(manyRowsKernel, {tilesOf(args.rows, 128), tilesOf(args.weight.n, 128)}, kManyThreads, kStages * kStageVectors * sizeof(uint4), stream, tiles);
    return;
  }
  const int numSegments = (kTiles + kSegmentTiles - 1) / kSegmentTiles, warps = numSegments < 8 ? numSegments : 8;
  const Grid grid{tilesOf(args.weight.n, kTileN)};
  const auto few = [&](auto kernel, int mTiles) { launch(kernel, grid, warps * kWarp, static_cast<size_t>(warps * mTiles * 4 * kWarp) * sizeof(float), stream, tiles); };
  if (tilesM == 1) few(fewRowsKernel<1>, 1);
  else if (tilesM == 2) few(fewRowsKernel<2>, 2);
  else few(fewRowsKernel<4>, 4);
}

struct PlainWeight {
  const uint8_t* data;
  WeightFormat format;
  int64_t kTiles;
};
MILLRACE_GPU float loadWeight(const PlainWeight& weight, int64_t n, int64_t k, int64_t columns) {
  switch (weight.format) {
    case WeightFormat::f32: return reinterpret_cast<const float*>(weight.data)[n * columns + k];
    case WeightFormat::f16: return f16ToFloat(reinterpret_cast<const uint16_t*>(weight.data)[n * columns + k]);
    default: return bf16ToFloat(reinterpret_cast<const uint16_t*>(weight.data)[weightPlace(n, k, weight.kTiles)]);
  }
}

constexpr int kPlainTile = 64, kPlainDepth = 16, kPlainThreads = 256;

// 64 x 64 outputs a block, 4 x 4 a thread, sums in the order of k.
__global__ void __launch_bounds__(kPlainThreads) plainKernel(ConstRows x, Rows y, int32_t rows, PlainWeight weight, int32_t n, int32_t k, const float* bias, bool roundsToBf16) {
  __shared__ float xs[kPlainDepth][kPlainTile + 1], ws[kPlainDepth][kPlainTile + 1];
  const int32_t firstRow = static_cast<int32_t>(blockIdx.x) * kPlainTile, firstColumn = static_cast<int32_t>(blockIdx.y) * kPlainTile;
  const int ty = static_cast<int>(threadIdx.x / 16), tx = static_cast<int>(threadIdx.x % 16);
  float total[4][4] = {}, sum[4][4] = {};
  for (int32_t begin = 0; begin < k; begin += kPlainDepth) {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kPlainTile * kPlainDepth; i += kPlainThreads) {
      const int32_t within = i / kPlainDepth, column = begin + i % kPlainDepth;
      float value = firstRow + within < rows && column < k ? x.data[(firstRow + within) * x.stride + column] : 0.0f;
      if (roundsToBf16) value = bf16ToFloat(floatToBf16(value));
      xs[i % kPlainDepth][within] = value;
      ws[i % kPlainDepth][within] = firstColumn + within < n && column < k ? loadWeight(weight, firstColumn + within, column, k) : 0.0f;
    }
    __syncthreads();
    for (int d = 0; d < kPlainDepth; d++)
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) sum[i][j] = fmaf(xs[d][ty + 16 * i], ws[d][tx + 16 * j], sum[i][j]);
    if ((begin + kPlainDepth) % kLinearSegment != 0 && begin + kPlainDepth < k) continue;
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++) {
        total[i][j] += sum[i][j];
        sum[i][j] = 0;
      }
  }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 4; j++) {
      const int32_t row = firstRow + ty + 16 * i, column = firstColumn + tx + 16 * j;
      if (row < rows && column < n) y.data[row * y.stride + column] = total[i][j] + (bias == nullptr ? 0.0f : bias[column]);
    }
}

}  // namespace

size_t linearScratchBytes(int32_t maxRows, int32_t k) {
  // the kernel for few rows reads whole sets of 4 tiles
  const int64_t tilesM = tilesOf(tilesOf(maxRows, kTileM), 4) * 4;
  return static_cast<size_t>(tilesM * tilesOf(k, kTileK) * kActivationTile) * sizeof(uint16_t);
}

bool linearSupports(WeightFormat format, Activation activation) {
  const bool plain = format == WeightFormat::f32 || format == WeightFormat::f16 || format == WeightFormat::bf16;
  return plain && (activation == Activation::f32 || activation == Activation::bf16);
}

const char* linearName(WeightFormat format, Activation activation) {
  if (usesTiles(format, activation)) return "linear_bf16_mma";
  return format == WeightFormat::f32 ? "linear_f32_fma" : format == WeightFormat::f16 ? "linear_f16_fma" : "linear_bf16_fma";
}

void linear(const LinearArgs& args, const Stream& stream) {
  if (usesTiles(args.weight.format, args.activation)) {
    linearTiles(args, stream);
    return;
  }
  const PlainWeight weight{args.weight.data, args.weight.format, tilesOf(args.weight.k, kTileK)};
  launch(plainKernel, {tilesOf(args.rows, kPlainTile), tilesOf(args.weight.n, kPlainTile)}, kPlainThreads, 0, stream, args.x, args.y, args.rows, weight, args.weight.n,
         args.weight.k, args.bias, args.activation == Activation::bf16);
}

}  // namespace millrace::cuda
