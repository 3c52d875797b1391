// CUDA's words for kernels that run on the CPU: the threads of a block are fibers that take turns at barriers, the blocks run one after the other. It
// is slow and made for tests: what it checks is what a kernel computes, not how fast, nor races between barriers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// One block runs at a time, so its memory may be everybody's.
#define __shared__ static
#define MILLRACE_DYNAMIC_SHARED(name) unsigned char* const name = ::millrace::cuda::emulator::dynamicShared()

namespace millrace::cuda::emulator {

struct Index {
  unsigned x, y, z;
};

extern Index threadIndex, blockIndex, blockSize, gridSize;

unsigned char* dynamicShared();
void syncBlock();
void syncWarp();
// The word that `source` of the warp gave at the same call.
uint32_t shuffle(uint32_t word, int source);
void multiplyTile(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1);
void loadTransposed(uint32_t (&words)[4], const void* row);
inline void copy16(void* to, const void* from, bool inside) {
  if (inside) std::memcpy(to, from, 16);
  else std::memset(to, 0, 16);
}

// Runs body() for every thread of every block.
void run(Index grid, unsigned threads, size_t sharedBytes, void (*body)(void*), void* context);

template <class T>
uint32_t wordOf(T value) {
  static_assert(sizeof(T) == 4, "words are shuffled");
  uint32_t word;
  std::memcpy(&word, &value, 4);
  return word;
}
template <class T>
T valueOf(uint32_t word) {
  T value;
  std::memcpy(&value, &word, 4);
  return value;
}

}  // namespace millrace::cuda::emulator

#define threadIdx (::millrace::cuda::emulator::threadIndex)
#define blockIdx (::millrace::cuda::emulator::blockIndex)
#define blockDim (::millrace::cuda::emulator::blockSize)
#define gridDim (::millrace::cuda::emulator::gridSize)

inline void __syncthreads() { millrace::cuda::emulator::syncBlock(); }
inline void __syncwarp() { millrace::cuda::emulator::syncWarp(); }
template <class T>
T __shfl_sync(unsigned, T value, int source) {
  return millrace::cuda::emulator::valueOf<T>(millrace::cuda::emulator::shuffle(millrace::cuda::emulator::wordOf(value), source));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int apart) {
  return __shfl_sync(mask, value, static_cast<int>(threadIdx.x % 32) ^ apart);
}
inline float __uint_as_float(uint32_t bits) { return millrace::cuda::emulator::valueOf<float>(bits); }
inline uint32_t __float_as_uint(float value) { return millrace::cuda::emulator::wordOf(value); }

// Fibers take turns at barriers alone.
template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at += value;
  return before;
}
template <class T>
T atomicOr(T* at, T value) {
  const T before = *at;
  *at |= value;
  return before;
}
template <class T>
T atomicExch(T* at, T value) {
  const T before = *at;
  *at = value;
  return before;
}
template <class T>
T atomicMax(T* at, T value) {
  const T before = *at;
  if (value > before) *at = value;
  return before;
}

struct float4 {
  float x, y, z, w;
};
struct uint4 {
  uint32_t x, y, z, w;
};
