// rope, kv-write, and both in one pass. The angle is one f32 product, as the reference has it. One block a token; memory bound.
#include "kv_cache.h"
#include "launch.h"

namespace millrace::cuda {
namespace {

constexpr int kThreads = 128;

// Elements `a` and `b` of pair `pair` of the head that starts at `head`, and what they turn into.
struct Turned {
  int64_t a, b;
  float first, second;
};
MILLRACE_GPU Turned turn(const RopeArgs& args, const float* row, int64_t head, int32_t pair, int32_t position) {
  const float angle = static_cast<float>(position) * args.frequencies[pair];
  const float cosine = cosf(angle) * args.magnitude, sine = sinf(angle) * args.magnitude;
  const int32_t half = args.rotaryDim / 2;
  Turned turned;
  turned.a = head + (args.interleaved ? 2 * pair : pair);
  turned.b = turned.a + (args.interleaved ? 1 : half);
  const float x = row[turned.a], y = row[turned.b];
  turned.first = x * cosine - y * sine;
  turned.second = y * cosine + x * sine;
  return turned;
}

// The rotated row of one token, element by element, to store(element, value).
template <class Store>
MILLRACE_GPU void rotateRow(const RopeArgs& args, int64_t token, Store&& store) {
  const float* row = args.x.data + token * args.x.stride;
  const int32_t position = args.positions[token], half = args.rotaryDim / 2, rest = args.headDim - args.rotaryDim, heads = args.width / args.headDim;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < heads * half; i += kThreads) {
    const Turned turned = turn(args, row, int64_t{i / half} * args.headDim, i % half, position);
    store(turned.a, turned.first);
    store(turned.b, turned.second);
  }
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < heads * rest; i += kThreads) {
    const int64_t at = int64_t{i / rest} * args.headDim + args.rotaryDim + i % rest;
    store(at, row[at]);
  }
}

__global__ void ropeKernel(RopeArgs args) {
  float* to = args.y.data + blockIdx.x * args.y.stride;
  rotateRow(args, blockIdx.x, [&](int64_t at, float value) { to[at] = value; });
}

// A slot below 0 is none: nothing is written.
template <class Element>
MILLRACE_GPU void storeElement(const KvLayer& cache, int32_t slot, int64_t at, int64_t offset, float value) {
  using Type = typename Element::Type;
  if (slot < 0) return;
  const int32_t kvHead = static_cast<int32_t>(at / cache.headDim);
  reinterpret_cast<Type*>(cache.data)[offset + kvHeadAt(cache, slot, kvHead) + at % cache.headDim] = Element::store(value);
}

template <class Element>
__global__ void kvWriteKernel(KvWriteArgs args) {
  const int32_t slot = args.slotMapping[blockIdx.x], width = args.cache.numKvHeads * args.cache.headDim;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < width; i += kThreads) {
    storeElement<Element>(args.cache, slot, i, 0, args.k.data[blockIdx.x * args.k.stride + i]);
    storeElement<Element>(args.cache, slot, i, kvHalfBlock(args.cache), args.v.data[blockIdx.x * args.v.stride + i]);
  }
}

template <class Element>
__global__ void ropeKvWriteKernel(RopeArgs q, RopeArgs k, KvWriteArgs kv) {
  const int32_t slot = kv.slotMapping[blockIdx.x], width = kv.cache.numKvHeads * kv.cache.headDim;
  float* to = q.y.data + blockIdx.x * q.y.stride;
  rotateRow(q, blockIdx.x, [&](int64_t at, float value) { to[at] = value; });
  rotateRow(k, blockIdx.x, [&](int64_t at, float value) { storeElement<Element>(kv.cache, slot, at, 0, value); });
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < width; i += kThreads)
    storeElement<Element>(kv.cache, slot, i, kvHalfBlock(kv.cache), kv.v.data[blockIdx.x * kv.v.stride + i]);
}

}  // namespace

void rope(const RopeArgs& args, const Stream& stream) { launch(ropeKernel, {args.tokens}, kThreads, 0, stream, args); }

void kvWrite(const KvWriteArgs& args, const Stream& stream) {
  withKvDtype(args.cache.dtype, [&](auto element) { launch(kvWriteKernel<decltype(element)>, {args.tokens}, kThreads, 0, stream, args); });
}

void ropeKvWrite(const RopeArgs& q, const RopeArgs& k, const KvWriteArgs& kv, const Stream& stream) {
  withKvDtype(kv.cache.dtype, [&](auto element) { launch(ropeKvWriteKernel<decltype(element)>, {q.tokens}, kThreads, 0, stream, q, k, kv); });
}

}  // namespace millrace::cuda
