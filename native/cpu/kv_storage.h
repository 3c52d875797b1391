// The number types that K and V are stored in, for templates: a vector or a single value out of the cache (exact) and into it (nearest even).
#pragma once

#include "kernels.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

struct F32Storage {
  using Element = float;
  static MILLRACE_INLINE Vec widen(const float* p) { return load(p); }
  static MILLRACE_INLINE float widenOne(float x) { return x; }
  static MILLRACE_INLINE void round(float* p, Vec v) { store(p, v); }
  static MILLRACE_INLINE float roundOne(float x) { return x; }
};
struct F16Storage {
  using Element = uint16_t;
  static MILLRACE_INLINE Vec widen(const uint16_t* p) { return loadF16(p); }
  static MILLRACE_INLINE float widenOne(uint16_t x) { return f16ToF32(x); }
  static MILLRACE_INLINE void round(uint16_t* p, Vec v) { storeF16(p, v); }
  static MILLRACE_INLINE uint16_t roundOne(float x) { return f32ToF16(x); }
};
struct Bf16Storage {
  using Element = uint16_t;
  static MILLRACE_INLINE Vec widen(const uint16_t* p) { return loadBf16(p); }
  static MILLRACE_INLINE float widenOne(uint16_t x) { return bf16ToF32(x); }
  static MILLRACE_INLINE void round(uint16_t* p, Vec v) { storeBf16(p, v); }
  static MILLRACE_INLINE uint16_t roundOne(float x) { return f32ToBf16(x); }
};

// Calls f with the storage of a dtype.
template <class F>
MILLRACE_INLINE void withStorage(KvDtype dtype, F&& f) {
  switch (dtype) {
    case KvDtype::f32: return f(F32Storage{});
    case KvDtype::f16: return f(F16Storage{});
    case KvDtype::bf16: return f(Bf16Storage{});
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
