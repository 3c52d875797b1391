// What the GPU kernels are written against. With nvcc this is CUDA; with a plain C++ compiler the kernels run on the CPU, thread by thread
// (emulator/emulator.h), so that their indices, barriers and arithmetic are held against the reference on machines without a GPU.
//
// Kernels are launched by millrace::cuda::launch and keep to: one-dimensional blocks, barriers that all threads of a block (or a warp) reach, and the
// functions below.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#include <cuda_runtime.h>
// Shared memory whose size the launch gives.
#define MILLRACE_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#else
#include "emulator/emulator.h"
#endif

#define MILLRACE_GPU __device__ __forceinline__

namespace millrace::cuda {

constexpr int kWarp = 32;

MILLRACE_GPU int laneOf(int thread) { return thread % kWarp; }

// bf16 by its bits; rounding to nearest, ties to even, NaN kept: as src/base/dtype.ts.
MILLRACE_GPU float bf16ToFloat(uint32_t bits) { return __uint_as_float(bits << 16); }
MILLRACE_GPU uint16_t floatToBf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
MILLRACE_GPU uint32_t packBf16(float low, float high) { return floatToBf16(low) | static_cast<uint32_t>(floatToBf16(high)) << 16; }

MILLRACE_GPU float f16ToFloat(uint32_t h) {
  const uint32_t sign = (h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return __uint_as_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude << 13) * 5.192296858534828e33f));  // 2^112
}
MILLRACE_GPU uint16_t floatToF16(float value) {
  const uint32_t bits = __float_as_uint(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) return static_cast<uint16_t>(sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u));
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

// Sum over the 32 lanes as a fixed tree; every lane gets it.
MILLRACE_GPU float warpSum(float value) {
  for (int apart = kWarp / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
  return value;
}
// Largest over the lanes, NaN if any is.
MILLRACE_GPU float largerOf(float a, float b) { return a != a || a > b ? a : b; }
MILLRACE_GPU float warpMaximum(float value) {
  for (int apart = kWarp / 2; apart > 0; apart /= 2) value = largerOf(value, __shfl_xor_sync(0xffffffffu, value, apart));
  return value;
}

// D += A B for one warp: A [16, 16] and B [16, 8] in bf16, D [16, 8] in f32. With g = lane / 4 and t = lane % 4, pairs of neighbouring k in a word:
//   a: (row g, k 2t), (row g + 8, k 2t), (row g, k 2t + 8), (row g + 8, k 2t + 8)
//   b: (k 2t, column g), (k 2t + 8, column g)
//   d: (row g, column 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
// (PTX ISA, mma.m16n8k16.) A row of D depends on that row of A alone.
MILLRACE_GPU void multiplyTile(float (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
  emulator::multiplyTile(d, a0, a1, a2, a3, b0, b1);
#endif
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory, transposed: lane l gives the address of row l % 8 of matrix l / 8, and gets of each matrix the
// numbers of column l / 4 in rows 2 (l % 4) and 2 (l % 4) + 1. (PTX ISA, ldmatrix.x4.trans.)
MILLRACE_GPU void loadTransposed(uint32_t (&words)[4], const void* shared) {
#ifdef __CUDACC__
  const uint32_t from = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(from));
#else
  emulator::loadTransposed(words, shared);
#endif
}

// 16 bytes from global to shared memory without passing registers; zeros when `inside` is false. Both are 16-byte aligned.
MILLRACE_GPU void copyAsync16(void* shared, const void* global, bool inside) {
#ifdef __CUDACC__
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes));
#else
  emulator::copy16(shared, global, inside);
#endif
}
MILLRACE_GPU void commitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;\n" ::);
#endif
}
// Waits until at most `Pending` committed groups of this thread are under way.
template <int Pending>
MILLRACE_GPU void awaitCopies() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending));
#endif
}

}  // namespace millrace::cuda
