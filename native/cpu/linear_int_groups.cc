// linear with weights of integer groups (2, 3, 4 and 8 bits under a scale and a zero point of 32, 64 or 128 elements: what GPTQ, AWQ and
// compressed-tensors hold). The zero point joins the integer sum: sum(q * level) - X * zero is exact. Kernels: linear_fields.h.
// Measured (as in linear_fields.cc): 1 row 94-100 % of the memory bandwidth; int4 8 rows 40-44 %, 32 rows 54-55 %, 512 rows 62-63 % of the vpdpbusd peak, int8 31, 48 and 60 %.
#include "linear_fields.h"

namespace millrace::cpu::MILLRACE_ISA {

TileKernel integerGroupKernel(WeightFormat format, Activation activation) {
  switch (format) {
    case WeightFormat::int2_g32: return pickFields<WeightFormat::int2_g32>(activation);
    case WeightFormat::int2_g64: return pickFields<WeightFormat::int2_g64>(activation);
    case WeightFormat::int2_g128: return pickFields<WeightFormat::int2_g128>(activation);
    case WeightFormat::int3_g32: return pickFields<WeightFormat::int3_g32>(activation);
    case WeightFormat::int3_g64: return pickFields<WeightFormat::int3_g64>(activation);
    case WeightFormat::int3_g128: return pickFields<WeightFormat::int3_g128>(activation);
    case WeightFormat::int4_g32: return pickFields<WeightFormat::int4_g32>(activation);
    case WeightFormat::int4_g64: return pickFields<WeightFormat::int4_g64>(activation);
    case WeightFormat::int4_g128: return pickFields<WeightFormat::int4_g128>(activation);
    case WeightFormat::int8_g32: return pickFields<WeightFormat::int8_g32>(activation);
    case WeightFormat::int8_g128: return pickFields<WeightFormat::int8_g128>(activation);
    default: return nullptr;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
