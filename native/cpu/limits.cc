#include "limits.h"

#include <algorithm>
#include <chrono>

#include "../common/memory.h"

namespace millrace::cpu {
namespace {

constexpr size_t kTileBytes = size_t{1} << 20;
constexpr int kPasses = 3;
constexpr int kPeakPasses = 20;
constexpr int kPeakTiles = 64;
constexpr int64_t kPeakRounds = 1 << 16;  // a tile of about a tenth of a millisecond to a millisecond

template <class F>
double seconds(F&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Median of the passes: the first may meet pages that nobody has read yet.
double readRate(const LimitKernels& kernels, ThreadPool& pool, const Memory& region) {
  const int64_t tiles = static_cast<int64_t>(region.size() / kTileBytes);
  std::vector<uint64_t> sums(static_cast<size_t>(pool.numThreads()) * 8);  // a cache line apart
  double rates[kPasses];
  for (double& rate : rates) {
    const double time = seconds([&] {
      pool.parallel(tiles, [&](int64_t tile, int worker) { sums[static_cast<size_t>(worker) * 8] += kernels.read(region.data() + tile * static_cast<int64_t>(kTileBytes), kTileBytes); });
    });
    rate = static_cast<double>(tiles) * static_cast<double>(kTileBytes) / time;
  }
  std::sort(rates, rates + kPasses);
  return rates[kPasses / 2];
}

// The best pass: nothing but interruptions makes one slower.
double peakRate(double (*loop)(int64_t, float*), ThreadPool& pool) {
  if (loop == nullptr) return 0;
  std::vector<float> sinks(static_cast<size_t>(pool.numThreads()) * 64);
  std::vector<double> operations(static_cast<size_t>(pool.numThreads()) * 8);
  double best = 0;
  for (int pass = 0; pass < kPeakPasses; pass++) {
    std::fill(operations.begin(), operations.end(), 0);
    const double time = seconds([&] {
      pool.parallel(kPeakTiles, [&](int64_t, int worker) {
        operations[static_cast<size_t>(worker) * 8] += loop(kPeakRounds, sinks.data() + static_cast<size_t>(worker) * 64);
      });
    });
    double sum = 0;
    for (const double each : operations) sum += each;
    best = std::max(best, sum / time);
  }
  return best;
}

}  // namespace

Limits measureLimits(const LimitKernels& kernels, ThreadPool& pool, size_t regionBytes, int numRegions) {
  Limits limits;
  limits.int8OperationsPerSecond = peakRate(kernels.int8, pool);
  limits.bf16OperationsPerSecond = peakRate(kernels.bf16, pool);
  limits.f32OperationsPerSecond = peakRate(kernels.f32, pool);
  std::vector<Memory> regions;
  for (int i = 0; i < numRegions; i++) {
    regions.emplace_back(regionBytes, "a region to read");
    Memory& region = regions.back();
    const int64_t tiles = static_cast<int64_t>(regionBytes / kTileBytes);
    pool.parallel(tiles, [&](int64_t tile, int) { std::fill_n(region.data() + tile * static_cast<int64_t>(kTileBytes), kTileBytes, uint8_t{1}); });
  }
  for (const Memory& region : regions) limits.readBytesPerSecond.push_back(readRate(kernels, pool, region));
  return limits;
}

}  // namespace millrace::cpu
