// The functions of rope.cc, with the signatures of the kernel table.
#pragma once

#include "kernels.h"

namespace millrace::cpu::MILLRACE_ISA {

void rope(const RopeArgs&, ThreadPool&);
void ropeKvWrite(const RopeArgs& q, const RopeArgs& k, const KvWriteArgs& kv, ThreadPool&);

// Turns the heads of one token, [numHeads, headDim] each: the rotation alone, without the magnitude.
void turnHeads(const RopeArgs&, int64_t token, const float* x, float* y, int numHeads);

}  // namespace millrace::cpu::MILLRACE_ISA
