// Shared by the parts of the kernel check.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "../kernels.h"

namespace millrace::cpu::check {

void expect(bool good, const char* what, const std::string& where);
// Allocations of all threads so far (operator new: what the kernels and the pool could reach).
int64_t numAllocations();
// Runs a kernel, which must not allocate.
template <class F>
void runKernel(const char* name, F&& kernel) {
  const int64_t before = numAllocations();
  kernel();
  if (numAllocations() != before) expect(false, "allocates in a step", name);
}
void checkLinear(const KernelTable&);
void checkAttention(const KernelTable&);
void checkRope(const KernelTable&);
void bench(const KernelTable&);

// Names by number.
extern const char* const kFormats[];
extern const char* const kActivations[];

// Reproducible values, roughly normal.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint32_t bits() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return static_cast<uint32_t>(state_ >> 16);
  }
  float uniform() { return static_cast<float>(bits() >> 8) / 16777216.0f; }
  float normal() { return (uniform() + uniform() + uniform() + uniform() - 2.0f) * 1.732f; }
  int below(int n) { return static_cast<int>(bits() % static_cast<uint32_t>(n)); }

 private:
  uint64_t state_;
};

// Memory on a cache line, filled with 0xff (NaN in every float format) so that reading what was never written shows.
class Buffer {
 public:
  explicit Buffer(size_t bytes) : storage_(bytes + 64, 0xff) {}
  uint8_t* data() { return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(storage_.data()) + 63) / 64 * 64); }
  template <class T> T* as() { return reinterpret_cast<T*>(data()); }

 private:
  std::vector<uint8_t> storage_;
};

// Scalar conversions, written apart from the kernels' own.
float bf16Value(uint16_t h);
uint16_t bf16Bits(float f);
float f16Value(uint16_t h);
uint16_t f16Bits(float f);

}  // namespace millrace::cpu::check
