// Speed of the kernels beside the peaks of this machine, measured in the same run: read from memory, and each instruction that a kernel is bound by.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>

#include "../thread_pool.h"
#include "check.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define MILLRACE_PEAKS 1
#endif

namespace millrace::cpu::check {
namespace {

// With one thread, its own time on the processor: the figure of a shared machine that other work disturbs least.
int threads = 2;
double now() {
  if (threads == 1) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Best of several runs: other work on the machine only adds time.
template <class F>
double bestSeconds(int runs, F&& f) {
  double best = 1e30;
  for (int i = 0; i < runs; i++) {
    const double start = now();
    f();
    best = std::min(best, now() - start);
  }
  return best;
}

#if defined(MILLRACE_PEAKS)
#define MILLRACE_TWELVE(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11)
#define MILLRACE_PEAK(name, target_, vector, instruction)                                                                        \
  __attribute__((target(target_), noinline)) void name(int64_t steps) {                                                           \
    vector a0{}, a1{}, a2{}, a3{}, a4{}, a5{}, a6{}, a7{}, a8{}, a9{}, a10{}, a11{}, x{}, y{};                                     \
    for (int64_t i = 0; i < steps; i++) { MILLRACE_TWELVE(instruction) }                                                          \
  }
#define MILLRACE_FMA(i) asm volatile("vfmadd231ps %1, %2, %0" : "+v"(a##i) : "v"(x), "v"(y));
#define MILLRACE_BF16(i) asm volatile("vdpbf16ps %1, %2, %0" : "+v"(a##i) : "v"(x), "v"(y));
#define MILLRACE_INT8(i) asm volatile("vpdpbusd %1, %2, %0" : "+v"(a##i) : "v"(x), "v"(y));
MILLRACE_PEAK(fma512, "avx512f", __m512, MILLRACE_FMA)
MILLRACE_PEAK(bf16512, "avx512f,avx512bf16", __m512, MILLRACE_BF16)
MILLRACE_PEAK(int8512, "avx512f,avx512vnni", __m512, MILLRACE_INT8)
MILLRACE_PEAK(fma256, "avx2,fma", __m256, MILLRACE_FMA)

double giga(ThreadPool& pool, void (*peak)(int64_t), double opsPerInstruction) {
  const int64_t steps = 400000;  // short, and often: some run finds the machine free
  const double s = bestSeconds(20, [&] { pool.parallel(pool.numThreads(), [&](int64_t, int) { peak(steps); }); });
  return static_cast<double>(steps) * 12 * opsPerInstruction * pool.numThreads() / s / 1e9;
}
#endif

double readGigabytes(ThreadPool& pool, const uint64_t* data, size_t words) {
  const size_t pieces = 64;
  const double s = bestSeconds(6, [&] {
    pool.parallel(pieces, [&](int64_t piece, int) {
      uint64_t sums[8] = {};
      for (size_t i = words / pieces * piece; i + 8 <= words / pieces * (piece + 1); i += 8)
        for (int j = 0; j < 8; j++) sums[j] += data[i + j];
      for (uint64_t sum : sums) asm volatile("" : : "r"(sum));
    });
  });
  return static_cast<double>(words) * 8 / s / 1e9;
}

void benchLinear(const KernelTable& table, WeightFormat format, Activation activation, const char* name, ThreadPool& pool, double peak) {
  for (auto [n, k] : {std::pair{4864, 1024}, {1024, 4864}}) {
    const size_t bytes = table.packedBytes(format, n, k);
    const int copies = static_cast<int>(200'000'000 / bytes) + 1;  // more than the caches hold
    Buffer weights(bytes * copies);
    Random random(1);
    for (size_t i = 0; i < bytes * copies / 2; i++) weights.as<uint16_t>()[i] = static_cast<uint16_t>((random.bits() & 0x83ff) | 0x3800);
    for (int rows : {1, 8, 32, 128, 512}) {
      std::vector<float> x(static_cast<size_t>(rows) * k), y(static_cast<size_t>(rows) * n);
      for (float& v : x) v = random.normal();
      Buffer scratch(table.linearScratchBytes(rows, k));
      const int some = rows > 64 ? 4 : copies;
      const double s = bestSeconds(rows > 64 ? 5 : 3, [&] {
        for (int c = 0; c < some; c++) {
          const PackedMatrix w{format, n, k, weights.data() + bytes * c};
          table.linear({{x.data(), k}, {y.data(), n}, rows, &w, nullptr, activation, scratch.data(), nullptr, false}, pool);
        }
      }) / some;
      const double ops = 2.0 * rows * n * k / s / 1e9;
      std::printf("  %-20s %5d x %-5d rows %-4d %9.1f us %8.1f GOP/s (%3.0f%% of peak) %6.1f GB/s\n", name, n, k, rows, s * 1e6, ops, 100 * ops / peak, bytes / s / 1e9);
    }
  }
}

void benchAttention(const KernelTable& table, ThreadPool& pool) {
  struct Shape {
    int sequences, context, queries;
  };
  const int kvHeads = 2, group = 7, headDim = 64, blockSize = 16;
  for (const Shape& shape : {Shape{1, 512, 512}, Shape{1, 2048, 512}, Shape{8, 256, 1}, Shape{8, 2048, 1}, Shape{1, 8192, 1}}) {
    const int blocks = (shape.context + blockSize - 1) / blockSize, heads = kvHeads * group, width = heads * headDim, tokens = shape.sequences * shape.queries;
    const size_t blockBytes = table.kvBlockBytes({nullptr, KvDtype::f16, blockSize, kvHeads, headDim});
    Buffer memory(blockBytes * blocks * shape.sequences);
    for (size_t i = 0; i < blockBytes * blocks * shape.sequences / 2; i++) memory.as<uint16_t>()[i] = static_cast<uint16_t>(0x3000 + i % 500);
    std::vector<float> q(static_cast<size_t>(tokens) * width, 0.01f), out(q.size());
    std::vector<int32_t> rowStart = {0}, cacheIndex, visibleEnd, blockTable;
    for (int s = 0; s < shape.sequences; s++) {
      for (int t = 0; t < shape.queries; t++) cacheIndex.push_back(shape.context - shape.queries + t), visibleEnd.push_back(cacheIndex.back() + 1);
      rowStart.push_back(static_cast<int32_t>(cacheIndex.size()));
      for (int b = 0; b < blocks; b++) blockTable.push_back(s * blocks + b);
    }
    Buffer scratch(table.attentionScratchBytes(tokens, heads, headDim, pool.numThreads()));
    const AttentionArgs args{{q.data(), width}, {out.data(), width}, tokens, shape.sequences, heads, 0.125f, 0, 0, nullptr, nullptr,
                             {memory.data(), KvDtype::f16, blockSize, kvHeads, headDim}, rowStart.data(), cacheIndex.data(), visibleEnd.data(), blockTable.data(), blocks,
                             nullptr, nullptr, scratch.data(), nullptr};
    const double s = bestSeconds(9, [&] { table.attention(args, pool); });
    double keys = 0;
    for (int32_t end : visibleEnd) keys += end;
    std::printf("  attention %d x %d queries, context %-5d %9.1f us %8.1f GFLOP/s %6.1f GB/s of KV\n", shape.sequences, shape.queries, shape.context, s * 1e6,
                keys * heads * headDim * 4 / s / 1e9, static_cast<double>(blockBytes) * blocks * shape.sequences / s / 1e9);
  }
}

}  // namespace

void bench(const KernelTable& table) {
  if (const char* wanted = std::getenv("THREADS")) threads = std::atoi(wanted);
  WorkerPool pool(threads);
  double fma = 1, bf16 = 1, int8 = 1;
#if defined(MILLRACE_PEAKS)
  if (table.isa[3] == '5') fma = giga(pool, fma512, 32), bf16 = giga(pool, bf16512, 64), int8 = giga(pool, int8512, 128);
  else fma = bf16 = giga(pool, fma256, 16), int8 = 2 * fma;
#endif
  Buffer memory(400'000'000);
  std::printf("%s: peaks f32 %.0f GFLOP/s, bf16 %.0f, int8 %.0f, memory %.1f GB/s\n", table.isa, fma, bf16, int8, readGigabytes(pool, memory.as<uint64_t>(), 50'000'000));
  const char* only = std::getenv("ONLY");  // names, with commas
  const auto wanted = [&](const std::string& name) { return only == nullptr || ("," + std::string(only) + ",").find("," + name + ",") != std::string::npos; };
  for (int f = 0; f < static_cast<int>(WeightFormat::count); f++) {
    const WeightFormat format = WeightFormat(f);
    const bool isInteger = f >= static_cast<int>(WeightFormat::q8_0) && !hasFloatLevels(format);
    for (int a = 0; a < 4; a++) {
      const Activation activation = Activation(a);
      const bool byInt8 = a >= 2 && isInteger, byBf16 = a == 1 && (format == WeightFormat::bf16 || hasFloatLevels(format));
      const std::string name = std::string(kFormats[f]) + " by " + kActivations[a];
      // Without names: each format with the activations that it usually meets.
      const bool usual = byInt8 ? a == 2 : byBf16 || (a == 0 && f < 2);
      if (only == nullptr ? usual : wanted(name) || (usual && wanted(kFormats[f]))) benchLinear(table, format, activation, name.c_str(), pool, byInt8 ? int8 : byBf16 ? bf16 : fma);
    }
  }
  if (wanted("attention")) benchAttention(table, pool);
}

}  // namespace millrace::cpu::check
