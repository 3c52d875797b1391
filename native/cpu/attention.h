// The functions of attention.cc, with the signatures of the kernel table.
#pragma once

#include "kernels.h"

namespace millrace::cpu::MILLRACE_ISA {

size_t attentionScratchBytes(int32_t maxTokens, int32_t numHeads, int32_t headDim, int32_t numThreads);
void attention(const AttentionArgs&, ThreadPool&);

}  // namespace millrace::cpu::MILLRACE_ISA
