// The router of one instruction set (moe_route.cc), with the signature of the kernel table.
#pragma once

#include "kernels.h"

namespace millrace::cpu::MILLRACE_ISA {

void moeRoute(const MoeRouteArgs&, ThreadPool&);

}  // namespace millrace::cpu::MILLRACE_ISA
