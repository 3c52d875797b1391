// Ops on single elements: add, scale, soft-cap, activation, gated-activation, clamped-swiglu; and moves: gather-columns, select-rows.
// One thread an element, neighbours side by side: memory bound, 8 to 12 bytes an element.
#include "kernels.h"
#include "launch.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = 256;

Grid gridFor(int32_t rows, int32_t width) { return {rows, (width + kThreads - 1) / kThreads}; }

MILLRACE_GPU int32_t columnOfThread() { return static_cast<int32_t>(blockIdx.y * kThreads + threadIdx.x); }

MILLRACE_GPU float silu(float x) { return x / (1.0f + expf(-x)); }

MILLRACE_GPU float apply(int32_t function, float x) {
  switch (function) {
    case 0: return silu(x);
    case 1: return x / (1.0f + expf(-2.0f * (0.7978845608f * (x + 0.044715f * (x * x * x)))));  // x/2 (1 + tanh u): no cancellation for x < 0
    case 2: return x < 0.0f ? x * (0.5f * erfcf(-x * 0.7071067812f)) : x * (1.0f - 0.5f * erfcf(x * 0.7071067812f));
    default: return x < 0.0f ? 0.0f : x;
  }
}

__global__ void addKernel(ConstRows a, ConstRows b, Rows y, int32_t width) {
  const int32_t c = columnOfThread();
  if (c < width) y.data[blockIdx.x * y.stride + c] = a.data[blockIdx.x * a.stride + c] + b.data[blockIdx.x * b.stride + c];
}

__global__ void scaleKernel(ConstRows x, Rows y, int32_t width, float factor) {
  const int32_t c = columnOfThread();
  if (c < width) y.data[blockIdx.x * y.stride + c] = x.data[blockIdx.x * x.stride + c] * factor;
}

__global__ void softCapKernel(ConstRows x, Rows y, int32_t width, float cap) {
  const int32_t c = columnOfThread();
  if (c < width) y.data[blockIdx.x * y.stride + c] = cap * tanhf(x.data[blockIdx.x * x.stride + c] / cap);
}

__global__ void activationKernel(ConstRows x, Rows y, int32_t width, int32_t function) {
  const int32_t c = columnOfThread();
  if (c < width) y.data[blockIdx.x * y.stride + c] = apply(function, x.data[blockIdx.x * x.stride + c]);
}

__global__ void gatedActivationKernel(ConstRows gate, ConstRows up, Rows y, int32_t width, int32_t function) {
  const int32_t c = columnOfThread();
  if (c < width) y.data[blockIdx.x * y.stride + c] = apply(function, gate.data[blockIdx.x * gate.stride + c]) * up.data[blockIdx.x * up.stride + c];
}

// gate is cut off above, up on both sides; NaN stays.
__global__ void clampedSwigluKernel(ConstRows gate, ConstRows up, Rows y, int32_t width, float alpha, float limit) {
  const int32_t c = columnOfThread();
  if (c >= width) return;
  const float g = gate.data[blockIdx.x * gate.stride + c], u = up.data[blockIdx.x * up.stride + c];
  const float low = g > limit ? limit : g;
  const float near = u > limit ? limit : u < -limit ? -limit : u;
  y.data[blockIdx.x * y.stride + c] = (near + 1.0f) * (low / (1.0f + expf(-(low * alpha))));
}

__global__ void gatherColumnsKernel(ConstRows x, Rows y, int32_t width, const float* order) {
  const int32_t c = columnOfThread();
  if (c < width) y.data[blockIdx.x * y.stride + c] = x.data[blockIdx.x * x.stride + static_cast<int32_t>(order[c])];
}

__global__ void copyRowsKernel(ConstRows x, const int32_t* index, Rows y, int32_t width) {
  const int32_t c = columnOfThread();
  const int64_t row = index == nullptr ? int64_t{blockIdx.x} : int64_t{index[blockIdx.x]};
  if (c < width) y.data[blockIdx.x * y.stride + c] = x.data[row * x.stride + c];
}

__global__ void resolveIdsKernel(int32_t* ids, int32_t count, const int32_t* sampled) {
  const int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count && ids[i] < 0) ids[i] = sampled[-1 - ids[i]];
}

}  // namespace

void add(ConstRows a, ConstRows b, Rows y, int32_t rows, int32_t width, const Stream& stream) {
  launch(addKernel, gridFor(rows, width), kThreads, 0, stream, a, b, y, width);
}
void scale(ConstRows x, Rows y, int32_t rows, int32_t width, float factor, const Stream& stream) {
  launch(scaleKernel, gridFor(rows, width), kThreads, 0, stream, x, y, width, factor);
}
void softCap(ConstRows x, Rows y, int32_t rows, int32_t width, float cap, const Stream& stream) {
  launch(softCapKernel, gridFor(rows, width), kThreads, 0, stream, x, y, width, cap);
}
void activation(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t function, const Stream& stream) {
  launch(activationKernel, gridFor(rows, width), kThreads, 0, stream, x, y, width, function);
}
void gatedActivation(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, int32_t function, const Stream& stream) {
  launch(gatedActivationKernel, gridFor(rows, width), kThreads, 0, stream, gate, up, y, width, function);
}
void clampedSwiglu(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, float alpha, float limit, const Stream& stream) {
  launch(clampedSwigluKernel, gridFor(rows, width), kThreads, 0, stream, gate, up, y, width, alpha, limit);
}
void gatherColumns(ConstRows x, Rows y, int32_t rows, int32_t width, const float* order, const Stream& stream) {
  launch(gatherColumnsKernel, gridFor(rows, width), kThreads, 0, stream, x, y, width, order);
}
void copyRows(ConstRows x, const int32_t* index, Rows y, int32_t rows, int32_t width, const Stream& stream) {
  if (index == nullptr && x.data == y.data) return;
  launch(copyRowsKernel, gridFor(rows, width), kThreads, 0, stream, x, index, y, width);
}

void resolveIds(int32_t* ids, int32_t count, const int32_t* sampled, const Stream& stream) {
  launch(resolveIdsKernel, {(count + kThreads - 1) / kThreads}, kThreads, 0, stream, ids, count, sampled);
}

}  // namespace millrace::cuda
