// Storage formats of weights: numbers on the wire, names and block sizes, equal to src/plan/encode.ts and src/quant/formats.
#pragma once

#include <cstddef>
#include <cstdint>

// X(enumerator, elements of a block, bytes of a block); a test reads these lines and compares them with src/quant/formats, in the order of encode.ts
#define MILLRACE_WEIGHT_FORMATS(X) \
  X(f32, 1, 4)                     \
  X(f16, 1, 2)                     \
  X(bf16, 1, 2)                    \
  X(q8_0, 32, 34)                  \
  X(q4_0, 32, 18)                  \
  X(q4_1, 32, 20)                  \
  X(q5_0, 32, 22)                  \
  X(q5_1, 32, 24)                  \
  X(q2_k, 256, 84)                 \
  X(q3_k, 256, 110)                \
  X(q4_k, 256, 144)                \
  X(q5_k, 256, 176)                \
  X(q6_k, 256, 210)                \
  X(iq4_nl, 32, 18)                \
  X(iq4_xs, 256, 136)              \
  X(mxfp4, 32, 17)                 \
  X(iq2_xxs, 256, 66)              \
  X(iq2_xs, 256, 74)               \
  X(iq2_s, 256, 82)                \
  X(iq3_xxs, 256, 98)              \
  X(iq3_s, 256, 110)               \
  X(iq1_s, 256, 50)                \
  X(iq1_m, 256, 56)                \
  X(tq1_0, 256, 54)                \
  X(tq2_0, 256, 66)                \
  X(int2_g32, 32, 12)              \
  X(int2_g64, 64, 20)              \
  X(int2_g128, 128, 36)            \
  X(int3_g32, 32, 16)              \
  X(int3_g64, 64, 28)              \
  X(int3_g128, 128, 52)            \
  X(int4_g32, 32, 20)              \
  X(int4_g64, 64, 36)              \
  X(int4_g128, 128, 68)            \
  X(int8_g32, 32, 37)              \
  X(int8_g128, 128, 133)           \
  X(fp8_g32, 32, 36)               \
  X(fp8_g128, 128, 132)            \
  X(fp8_e5m2_g32, 32, 36)          \
  X(fp8_e5m2_g128, 128, 132)       \
  X(nf4, 64, 36)                   \
  X(int8_channel, 32, 36)

namespace millrace {

enum class WeightFormat : int32_t {
#define MILLRACE_FORMAT(name, elements, bytes) name,
  MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
  count
};

struct BlockSize {
  int32_t elements, bytes;
};

// `static`, so that the code of one instruction set is never linked into another's.
static inline BlockSize blockSize(WeightFormat format) {
  switch (format) {
#define MILLRACE_FORMAT(name, elements, bytes) case WeightFormat::name: return {elements, bytes};
    MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
    case WeightFormat::count: break;
  }
  return {1, 0};
}

// Bytes of `elements` stored values, a whole number of blocks.
static inline int64_t bytesOf(WeightFormat format, int64_t elements) {
  const BlockSize block = blockSize(format);
  return elements / block.elements * block.bytes;
}

// Levels that are no integers: always multiplied as floats (cpu/linear_float_groups.cc).
static inline bool hasFloatLevels(WeightFormat format) { return format >= WeightFormat::fp8_g32 && format <= WeightFormat::nf4; }

// Blocks of integer levels whose fields are packed apart (cpu/linear_fields.h).
static inline bool isPackedByFields(WeightFormat format) { return format > WeightFormat::q4_0 && format < WeightFormat::fp8_g32; }

}  // namespace millrace
