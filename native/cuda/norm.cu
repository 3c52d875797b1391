// rms-norm, add-rms-norm, layer-norm. One block a group of a row; sums run over the block's threads in a fixed order: element c belongs to thread
// c % kThreads, then trees over lanes and warps. Memory bound: 8 to 16 bytes an element.
#include "kernels.h"
#include "launch.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = 256;

// Sum over the block in a fixed order; every thread gets it.
MILLRACE_GPU float blockSum(float value) {
  __shared__ float sums[kThreads / kWarp];
  value = warpSum(value);
  __syncthreads();  // sums may still be read from the call before
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = value;
  __syncthreads();
  float total = 0;
  for (int i = 0; i < kThreads / kWarp; i++) total += sums[i];
  return total;
}

MILLRACE_GPU void normalise(const float* x, float* y, int32_t width, const float* weight, float weightOffset, float epsilon) {
  float squares = 0;
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < width; c += kThreads) squares = fmaf(x[c], x[c], squares);
  const float meanSquare = blockSum(squares) / static_cast<float>(width);
  const float inverse = 1.0f / sqrtf(meanSquare + epsilon);
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < width; c += kThreads) y[c] = x[c] * inverse * (weight[c] + weightOffset);
}

__global__ void __launch_bounds__(kThreads) rmsNormKernel(ConstRows x, Rows y, int32_t groupWidth, const float* weight, float weightOffset, float epsilon) {
  const int64_t begin = int64_t{blockIdx.y} * groupWidth;
  normalise(x.data + blockIdx.x * x.stride + begin, y.data + blockIdx.x * y.stride + begin, groupWidth, weight, weightOffset, epsilon);
}

__global__ void __launch_bounds__(kThreads)
    addRmsNormKernel(ConstRows a, ConstRows b, Rows sum, Rows normed, int32_t groupWidth, const float* weight, float weightOffset, float epsilon) {
  const int64_t begin = int64_t{blockIdx.y} * groupWidth;
  const float* left = a.data + blockIdx.x * a.stride + begin;
  const float* right = b.data + blockIdx.x * b.stride + begin;
  float* total = sum.data + blockIdx.x * sum.stride + begin;
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < groupWidth; c += kThreads) total[c] = left[c] + right[c];
  // each thread reads back only what it wrote
  normalise(total, normed.data + blockIdx.x * normed.stride + begin, groupWidth, weight, weightOffset, epsilon);
}

__global__ void __launch_bounds__(kThreads) layerNormKernel(ConstRows x, Rows y, int32_t width, const float* weight, const float* bias, float epsilon) {
  const float* from = x.data + blockIdx.x * x.stride;
  float* to = y.data + blockIdx.x * y.stride;
  float sum = 0;
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < width; c += kThreads) sum += from[c];
  const float mean = blockSum(sum) / static_cast<float>(width);
  float squares = 0;
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < width; c += kThreads) squares = fmaf(from[c] - mean, from[c] - mean, squares);
  const float inverse = 1.0f / sqrtf(blockSum(squares) / static_cast<float>(width) + epsilon);
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < width; c += kThreads) to[c] = (from[c] - mean) * inverse * weight[c] + (bias == nullptr ? 0.0f : bias[c]);
}

}  // namespace

void rmsNorm(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset, float epsilon, const Stream& stream) {
  launch(rmsNormKernel, {rows, width / groupWidth}, kThreads, 0, stream, x, y, groupWidth, weight, weightOffset, epsilon);
}

void addRmsNorm(ConstRows a, ConstRows b, Rows sum, Rows normed, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset,
                float epsilon, const Stream& stream) {
  launch(addRmsNormKernel, {rows, width / groupWidth}, kThreads, 0, stream, a, b, sum, normed, groupWidth, weight, weightOffset, epsilon);
}

void layerNorm(ConstRows x, Rows y, int32_t rows, int32_t width, const float* weight, const float* bias, float epsilon, const Stream& stream) {
  launch(layerNormKernel, {rows}, kThreads, 0, stream, x, y, width, weight, bias, epsilon);
}

}  // namespace millrace::cuda
