// embedding and position-embedding: rows of a table, whatever it is stored as. One block a token; memory bound.
#include "kernels.h"
#include "launch.h"
#include "linear_tiles.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = 256;

MILLRACE_GPU float element(const Matrix& table, int64_t n, int64_t k) {
  switch (table.format) {
    case WeightFormat::f32: return reinterpret_cast<const float*>(table.data)[n * table.k + k];
    case WeightFormat::f16: return f16ToFloat(reinterpret_cast<const uint16_t*>(table.data)[n * table.k + k]);
    default: return bf16ToFloat(reinterpret_cast<const uint16_t*>(table.data)[weightPlace(n, k, tilesOf(table.k, kTileK))]);
  }
}

__global__ void embeddingKernel(const int32_t* ids, Matrix table, float factor, Rows y) {
  const int64_t id = ids[blockIdx.x];
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < table.k; c += kThreads) {
    const float value = element(table, id, c);
    y.data[blockIdx.x * y.stride + c] = factor == 1.0f ? value : value * factor;
  }
}

__global__ void positionEmbeddingKernel(ConstRows x, const int32_t* positions, Matrix table, Rows y) {
  const int32_t position = positions[blockIdx.x];
  const int64_t row = position < 0 ? 0 : position < table.n ? position : table.n - 1;
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < table.k; c += kThreads)
    y.data[blockIdx.x * y.stride + c] = x.data[blockIdx.x * x.stride + c] + element(table, row, c);
}

}  // namespace

void embedding(const int32_t* ids, const Matrix& table, float factor, Rows y, int32_t rows, const Stream& stream) {
  launch(embeddingKernel, {rows}, kThreads, 0, stream, ids, table, factor, y);
}

void positionEmbedding(ConstRows x, const int32_t* positions, const Matrix& table, Rows y, int32_t rows, const Stream& stream) {
  launch(positionEmbeddingKernel, {rows}, kThreads, 0, stream, x, positions, table, y);
}

}  // namespace millrace::cuda
