// What this machine allows, measured: streaming reads and the multiply-adds of each kind, for shares of the roofline (`millrace bench kernels`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace millrace::cpu {

// Loops of one instruction set. Each of the last three runs `rounds` rounds of independent multiply-adds in registers and returns how many operations
// (a multiplication and an addition are two) that was; null where the set has no such instruction.
struct LimitKernels {
  uint64_t (*read)(const uint8_t* data, size_t bytes);  // touches every byte; the value means nothing. data 64-byte aligned, whole 512 bytes
  double (*int8)(int64_t rounds, float* sink);
  double (*bf16)(int64_t rounds, float* sink);
  double (*f32)(int64_t rounds, float* sink);
};

struct Limits {
  std::vector<double> readBytesPerSecond;  // of each region of memory: they differ on some machines
  double int8OperationsPerSecond = 0, bf16OperationsPerSecond = 0, f32OperationsPerSecond = 0;  // 0: no such instruction
};

// All threads of the pool work, by tiles taken one by one, as over weights. Allocates numRegions blocks of regionBytes, zeroed. Throws MEMORY_INSUFFICIENT.
Limits measureLimits(const LimitKernels& kernels, ThreadPool& pool, size_t regionBytes, int numRegions);

namespace portable { const LimitKernels& limitKernels(); }
#if defined(__x86_64__) || defined(_M_X64)
namespace avx2 { const LimitKernels& limitKernels(); }
namespace avx512 { const LimitKernels& limitKernels(); }
#endif

}  // namespace millrace::cpu
