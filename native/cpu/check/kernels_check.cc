// Developer tool: checks the CPU kernels of all instruction sets against scalar f64 arithmetic, checks bit equality across row counts, chunkings and
// thread counts, and measures speed beside the machine's measured peaks. Build and run: native/cpu/check/run.sh [check|bench] [isa...]
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "../thread_pool.h"
#include "check.h"

namespace millrace::cpu {
#define X(name) namespace name { const KernelTable& kernelTable(); }
MILLRACE_VARIANTS
#undef X
}  // namespace millrace::cpu

namespace millrace::cpu::check {

std::vector<const KernelTable*> tables(const std::vector<std::string>& wanted) {
  const KernelTable* const all[] = {
#define X(name) &name::kernelTable(),
      MILLRACE_VARIANTS
#undef X
  };
  std::vector<const KernelTable*> chosen;
  for (const KernelTable* table : all) {
    bool take = wanted.empty();
    for (const std::string& name : wanted) take = take || name == table->isa;
    if (take) chosen.push_back(table);
  }
  return chosen;
}

std::atomic<int64_t> allocations{0};
int64_t numAllocations() { return allocations.load(); }

int failures = 0;
void expect(bool good, const char* what, const std::string& where) {
  if (good) return;
  failures++;
  if (failures <= 40) std::printf("FAILED %s: %s\n", what, where.c_str());
}

}  // namespace millrace::cpu::check

void* operator new(size_t bytes) {
  millrace::cpu::check::allocations++;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
  using namespace millrace::cpu::check;
  const std::string mode = argc > 1 ? argv[1] : "check";
  std::vector<std::string> wanted;
  for (int i = 2; i < argc; i++) wanted.push_back(argv[i]);
  for (const millrace::cpu::KernelTable* table : tables(wanted)) {
    if (mode == "bench") {
      bench(*table);
      continue;
    }
    checkLinear(*table);
    checkAttention(*table);
    checkRope(*table);
    std::printf("%s: checked, %d failures so far\n", table->isa, failures);
  }
  return failures == 0 ? 0 : 1;
}
