#include "cpu_features.h"

#include "../common/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#include <cstdlib>

#if !defined(MILLRACE_VARIANTS)
#error "compile with -DMILLRACE_VARIANTS=X(portable)X(avx2)...: the variants that were compiled, weakest first"
#endif

namespace millrace::cpu {

#define X(name) namespace name { const KernelTable& kernelTable(); const SamplerKernels& samplerKernels(); const LimitKernels& limitKernels(); }
MILLRACE_VARIANTS
#undef X

namespace {

enum Feature : uint32_t {
  kAvx2 = 1 << 0, kFma = 1 << 1, kF16c = 1 << 2, kBmi2 = 1 << 3, kAvxVnni = 1 << 4, kAvx512F = 1 << 5, kAvx512Bw = 1 << 6, kAvx512Vl = 1 << 7,
  kAvx512Dq = 1 << 8, kAvx512Vnni = 1 << 9, kAvx512Bf16 = 1 << 10, kAsimd = 1 << 11, kAsimdDp = 1 << 12, kAvx512Vbmi = 1 << 13,
};

// As /proc/cpuinfo spells them, for MILLRACE_CPU_MASK.
struct NamedFeature {
  const char* name;
  uint32_t feature;
};
const NamedFeature featureNames[] = {
    {"avx2", kAvx2}, {"fma", kFma}, {"f16c", kF16c}, {"bmi2", kBmi2}, {"avx_vnni", kAvxVnni}, {"avx512f", kAvx512F}, {"avx512bw", kAvx512Bw},
    {"avx512vl", kAvx512Vl}, {"avx512dq", kAvx512Dq}, {"avx512_vnni", kAvx512Vnni}, {"avx512_bf16", kAvx512Bf16}, {"avx512vbmi", kAvx512Vbmi},
    {"asimd", kAsimd}, {"asimddp", kAsimdDp},
};

#if defined(__x86_64__)
struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

// Which register files the operating system saves (XCR0); read by instruction because the intrinsic needs a compile flag.
unsigned long long savedState() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
}

uint32_t detect() {
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), sevenOne = seven.eax >= 1 ? cpuid(7, 1) : Registers{};
  const auto has = [](unsigned word, int index, Feature feature) { return (word >> index) & 1 ? uint32_t{feature} : 0; };
  if (!((one.ecx >> 27) & 1) || !((one.ecx >> 28) & 1)) return 0;  // OSXSAVE, AVX
  const unsigned long long saved = savedState();
  if ((saved & 0x6) != 0x6) return 0;
  uint32_t found = has(one.ecx, 12, kFma) | has(one.ecx, 29, kF16c) | has(seven.ebx, 5, kAvx2) | has(seven.ebx, 8, kBmi2) | has(sevenOne.eax, 4, kAvxVnni);
  if ((saved & 0xe6) != 0xe6) return found;
  return found | has(seven.ebx, 16, kAvx512F) | has(seven.ebx, 17, kAvx512Dq) | has(seven.ebx, 30, kAvx512Bw) | has(seven.ebx, 31, kAvx512Vl) |
         has(seven.ecx, 1, kAvx512Vbmi) | has(seven.ecx, 11, kAvx512Vnni) | has(sevenOne.eax, 5, kAvx512Bf16);
}
#elif defined(__aarch64__) && defined(__linux__)
uint32_t detect() {
  const unsigned long words = getauxval(AT_HWCAP);
  return ((words >> 1) & 1 ? uint32_t{kAsimd} : 0) | ((words >> 20) & 1 ? uint32_t{kAsimdDp} : 0);
}
#elif defined(__aarch64__) && defined(__APPLE__)
uint32_t detect() {
  int has = 0;
  size_t size = sizeof has;
  if (sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) != 0) has = 0;
  return kAsimd | (has ? uint32_t{kAsimdDp} : 0);
}
#else
uint32_t detect() { return 0; }
#endif

// Without those that the variable MILLRACE_CPU_MASK names, separated by commas.
uint32_t features() {
  static const uint32_t found = detect();
  const char* mask = std::getenv("MILLRACE_CPU_MASK");
  if (mask == nullptr) return found;
  const std::string words = "," + std::string(mask) + ",";
  uint32_t left = found;
  for (const NamedFeature& known : featureNames)
    if (words.find("," + std::string(known.name) + ",") != std::string::npos) left &= ~known.feature;
  return left;
}

uint32_t neededBy(Isa isa) {
  constexpr uint32_t avx2 = kAvx2 | kFma | kF16c | kBmi2;
  switch (isa) {
    case Isa::portable: return 0;
    case Isa::avx2: return avx2;
    case Isa::avxvnni: return avx2 | kAvxVnni;
    case Isa::avx512: return avx2 | kAvx512F | kAvx512Bw | kAvx512Vl | kAvx512Dq | kAvx512Vnni | kAvx512Bf16 | kAvx512Vbmi;
    case Isa::neon: return kAsimd;
    case Isa::neon_dotprod: return kAsimd | kAsimdDp;
  }
  return ~0u;
}

constexpr Isa allIsas[] = {Isa::portable, Isa::avx2, Isa::avxvnni, Isa::avx512, Isa::neon, Isa::neon_dotprod};

bool runs(Isa isa) { return (features() & neededBy(isa)) == neededBy(isa); }

struct Compiled {
  Isa isa;
  const KernelTable& (*table)();
  const SamplerKernels& (*samplerKernels)();
  const LimitKernels& (*limitKernels)();
};

// Weakest first.
const Compiled compiled[] = {
#define X(name) {Isa::name, name::kernelTable, name::samplerKernels, name::limitKernels},
    MILLRACE_VARIANTS
#undef X
};

}  // namespace

const char* isaName(Isa isa) {
  static const char* const names[] = {"portable", "avx2", "avxvnni", "avx512", "neon", "neon_dotprod"};
  return names[static_cast<int>(isa)];
}

std::vector<Isa> runnableIsas() {
  std::vector<Isa> isas;
  for (const Isa isa : allIsas)
    if (runs(isa)) isas.push_back(isa);
  return isas;
}

Isa bestIsa() { return runnableIsas().back(); }

std::vector<Isa> compiledIsas() {
  std::vector<Isa> isas;
  for (const Compiled& c : compiled) isas.push_back(c.isa);
  return isas;
}

const KernelTable& kernelTableFor(const std::string& name) {
  const Compiled* chosen = nullptr;
  bool known = name.empty();
  for (const Isa isa : allIsas) {
    if (name != isaName(isa)) continue;
    known = true;
    if (!runs(isa)) throw Error("CONFIG_INVALID", "Instruction set " + name + " is above what this machine has (" + isaName(bestIsa()) + ").");
  }
  if (!known) throw Error("CONFIG_INVALID", "There is no instruction set " + name + ".");
  for (const Compiled& c : compiled)
    if (runs(c.isa) && (name.empty() || name == isaName(c.isa))) chosen = &c;
  if (chosen == nullptr) throw Error("NATIVE_ADDON_UNAVAILABLE", "The addon was built without a kernel variant that this machine runs.");
  return chosen->table();
}

namespace {

const Compiled& compiledAs(const KernelTable& table) {
  const Compiled* chosen = compiled;
  while (table.isa != std::string(isaName(chosen->isa))) chosen++;
  return *chosen;
}

}  // namespace

const SamplerKernels& samplerKernelsFor(const KernelTable& table) { return compiledAs(table).samplerKernels(); }
const LimitKernels& limitKernelsFor(const KernelTable& table) { return compiledAs(table).limitKernels(); }

}  // namespace millrace::cpu
