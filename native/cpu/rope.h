// The functions of rope.cc, with the signatures of the kernel table.
#pragma once

#include "kernels.h"

namespace millrace::cpu::MILLRACE_ISA {

void rope(const RopeArgs&, ThreadPool&);
void ropeKvWrite(const RopeArgs& q, const RopeArgs& k, const KvWriteArgs& kv, ThreadPool&);

}  // namespace millrace::cpu::MILLRACE_ISA
