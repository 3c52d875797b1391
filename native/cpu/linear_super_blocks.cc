// linear with weights in super-blocks of 256: Q2_K to Q6_K, IQ4_XS, TQ1_0, TQ2_0. What a group of 32 adds: field_groups.h; kernels: linear_fields.h.
// Q2_K multiplies its levels of two bits by their scales of four in registers (at most 45), so that a group has one sum.
// Measured (as in linear_fields.cc): 1 row Q4_K 97 %, Q2_K 75 %, Q6_K 73 %, Q3_K 65 % of the memory bandwidth (the rest is arithmetic of one thread); 512 rows Q4_K 61 %,
// Q6_K 53 %, Q3_K 52 % of the vpdpbusd peak; 8 rows 33-38 %.
#include "linear_fields.h"

namespace millrace::cpu::MILLRACE_ISA {

TileKernel superBlockKernel(WeightFormat format, Activation activation) {
  switch (format) {
    case WeightFormat::q2_k: return pickFields<WeightFormat::q2_k>(activation);
    case WeightFormat::q3_k: return pickFields<WeightFormat::q3_k>(activation);
    case WeightFormat::q4_k: return pickFields<WeightFormat::q4_k>(activation);
    case WeightFormat::q5_k: return pickFields<WeightFormat::q5_k>(activation);
    case WeightFormat::q6_k: return pickFields<WeightFormat::q6_k>(activation);
    case WeightFormat::iq4_xs: return pickFields<WeightFormat::iq4_xs>(activation);
    case WeightFormat::tq1_0: return pickFields<WeightFormat::tq1_0>(activation);
    case WeightFormat::tq2_0: return pickFields<WeightFormat::tq2_0>(activation);
    default: return nullptr;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
