// linear with weights in super-blocks of 256 that take their levels from code books: IQ2, IQ3, IQ1. Each step of K gathers four levels for each of 16 (or 8)
// outputs; what a group of 32 adds: field_groups.h; kernels: linear_fields.h.
// Measured (as in linear_fields.cc), IQ3_S: the gathers are the bound of few rows: 1 row 18 % of the memory bandwidth; 8 rows 13 %, 512 rows 61 % of the vpdpbusd peak.
#include "linear_fields.h"

namespace millrace::cpu::MILLRACE_ISA {

TileKernel codeBookKernel(WeightFormat format, Activation activation) {
  switch (format) {
    case WeightFormat::iq2_xxs: return pickFields<WeightFormat::iq2_xxs>(activation);
    case WeightFormat::iq2_xs: return pickFields<WeightFormat::iq2_xs>(activation);
    case WeightFormat::iq2_s: return pickFields<WeightFormat::iq2_s>(activation);
    case WeightFormat::iq3_xxs: return pickFields<WeightFormat::iq3_xxs>(activation);
    case WeightFormat::iq3_s: return pickFields<WeightFormat::iq3_s>(activation);
    case WeightFormat::iq1_s: return pickFields<WeightFormat::iq1_s>(activation);
    case WeightFormat::iq1_m: return pickFields<WeightFormat::iq1_m>(activation);
    default: return nullptr;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
