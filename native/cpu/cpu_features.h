// What this processor and operating system can run, and the kernel tables that were compiled in.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"
#include "limits.h"
#include "sampler_kernels.h"

namespace millrace::cpu {

// Instruction-set classes, those of a processor family weakest first. avx2 means AVX2, FMA, F16C and BMI2; avxvnni those and AVX-VNNI; avx512 those of avx2 and
// AVX-512 F, BW, VL, DQ, VNNI, BF16 and VBMI; neon Armv8's ASIMD, neon_dotprod that and the dot products of Armv8.2.
enum class Isa { portable, avx2, avxvnni, avx512, neon, neon_dotprod };

const char* isaName(Isa isa);
// Classes that this processor and system run, but for features that the variable MILLRACE_CPU_MASK hides (names of /proc/cpuinfo, separated by commas).
std::vector<Isa> runnableIsas();
// The last of them.
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
