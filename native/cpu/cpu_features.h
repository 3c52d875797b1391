// What this processor and operating system can run, and the kernel tables that were compiled in.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"
#include "limits.h"
#include "sampler_kernels.h"

namespace millrace::cpu {

// Instruction-set classes, weakest first. avx2 means AVX2, FMA, F16C and BMI2; avx512 means those and AVX-512 F, BW, VL, DQ, VNNI and BF16.
enum class Isa { portable, avx2, avx512 };

const char* isaName(Isa isa);
Isa bestIsa();
std::vector<Isa> compiledIsas();

// The table of the named class, or of the best one that is compiled in and runs here when `name` is empty.
// Throws CONFIG_INVALID for an unknown name or a class above what the machine has, NATIVE_ADDON_UNAVAILABLE when it is not compiled in.
const KernelTable& kernelTableFor(const std::string& name);

// The sampler's loops of the same class.
const SamplerKernels& samplerKernelsFor(const KernelTable& table);
// And its loops that measure what the machine allows.
const LimitKernels& limitKernelsFor(const KernelTable& table);

}  // namespace millrace::cpu
