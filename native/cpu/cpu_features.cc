#include "cpu_features.h"

#include "../common/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace millrace::cpu {
namespace {

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

bool bit(unsigned word, int index) { return (word >> index) & 1; }

Isa detect() {
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), sevenOne = seven.eax >= 1 ? cpuid(7, 1) : Registers{};
  if (!bit(one.ecx, 27)) return Isa::portable;  // OSXSAVE
  const unsigned long long saved = savedState();
  const bool avx2 = (saved & 0x6) == 0x6 && bit(one.ecx, 28) && bit(one.ecx, 12) && bit(one.ecx, 29) && bit(seven.ebx, 5) && bit(seven.ebx, 8);
  if (!avx2) return Isa::portable;
  const bool avx512 = (saved & 0xe6) == 0xe6 && bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) && bit(seven.ebx, 31) &&
                      bit(seven.ecx, 11) && bit(sevenOne.eax, 5);
  return avx512 ? Isa::avx512 : Isa::avx2;
}
#else
Isa detect() { return Isa::portable; }
#endif

struct Compiled {
  Isa isa;
  const KernelTable& (*table)();
  const SamplerKernels& (*samplerKernels)();
  const LimitKernels& (*limitKernels)();
};

// Weakest first. The build defines MILLRACE_WITH_<ISA> for each variant that it compiled.
const Compiled compiled[] = {
#ifdef MILLRACE_WITH_PORTABLE
    {Isa::portable, portable::kernelTable, portable::samplerKernels, portable::limitKernels},
#endif
#ifdef MILLRACE_WITH_AVX2
    {Isa::avx2, avx2::kernelTable, avx2::samplerKernels, avx2::limitKernels},
#endif
#ifdef MILLRACE_WITH_AVX512
    {Isa::avx512, avx512::kernelTable, avx512::samplerKernels, avx512::limitKernels},
#endif
};

}  // namespace

const char* isaName(Isa isa) {
  static const char* const names[] = {"portable", "avx2", "avx512"};
  return names[static_cast<int>(isa)];
}

Isa bestIsa() {
  static const Isa best = detect();
  return best;
}

std::vector<Isa> compiledIsas() {
  std::vector<Isa> isas;
  for (const Compiled& c : compiled) isas.push_back(c.isa);
  return isas;
}

const KernelTable& kernelTableFor(const std::string& name) {
  const Compiled* chosen = nullptr;
  bool known = name.empty();
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (name != isaName(isa)) continue;
    known = true;
    if (isa > bestIsa()) throw Error("CONFIG_INVALID", "Instruction set " + name + " is above what this machine has (" + isaName(bestIsa()) + ").");
  }
  if (!known) throw Error("CONFIG_INVALID", "There is no instruction set " + name + ".");
  for (const Compiled& c : compiled)
    if (c.isa <= bestIsa() && (name.empty() || name == isaName(c.isa))) chosen = &c;
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
