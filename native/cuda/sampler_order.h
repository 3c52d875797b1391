// Numbers of a row in ascending order of a 64-bit key, a chunk at a time, without sorting what is not asked for: a histogram of the next digit of the keys says
// how far a chunk may reach, its keys are gathered in shared memory and sorted there. Radix selection, as in Alabi et al. 2012 (doi 10.1145/2133803.2345676).
#pragma once

#include "gpu.h"

namespace millrace::cuda {

constexpr int kSamplerThreads = 512, kSamplerWarps = kSamplerThreads / kWarp;
constexpr int kChunk = 1024;  // most keys of a chunk
constexpr int kBuckets = 2048;
constexpr uint32_t kNoBucket = 0xffffffffu;

struct OrderShared {
  uint64_t keys[kChunk];
  uint32_t buckets[kBuckets];
  uint32_t warpTotals[kSamplerWarps];
  uint32_t count, crossing, before;
};

// A word that falls as the number rises, over the id: ascending keys are descending logits, ties to the lower id. -0 and 0 are one number.
MILLRACE_GPU uint64_t descendingKey(float logit, int32_t id) {
  const uint32_t bits = __float_as_uint(logit + 0.0f);
  const uint32_t word = (bits & 0x80000000u) != 0 ? bits : ~bits & 0x7fffffffu;
  return (uint64_t{word} << 32) | static_cast<uint32_t>(id);
}

// All threads of a block together. `KeyOf`: bool operator()(int32_t i, uint64_t& key), whether number i counts; keys are distinct, and not all ones.
template <class KeyOf>
class Order {
 public:
  MILLRACE_GPU Order(OrderShared& shared, KeyOf keyOf, int32_t n) : shared_(shared), keyOf_(keyOf), n_(n) {}

  // The next keys, ascending, in shared.keys; returns how many: 0 when there are no more.
  MILLRACE_GPU int32_t next() {
    if (isAtEnd_) return 0;
    const uint64_t from = low_;
    narrow();
    __syncthreads();
    if (threadIdx.x == 0) shared_.count = 0;
    __syncthreads();
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n_; i += kSamplerThreads) {
      uint64_t key = 0;
      if (!keyOf_(i, key) || key < from || (!isAtEnd_ && key >= low_)) continue;
      shared_.keys[atomicAdd(&shared_.count, 1u)] = key;
    }
    __syncthreads();
    const int32_t count = static_cast<int32_t>(shared_.count);
    sort(count);
    return count;
  }

 private:
  // Brings low_ to the first key beyond the next chunk, digit by digit.
  MILLRACE_GPU void narrow() {
    uint64_t prefix = 0;
    int used = 0;
    for (int level = 0;; level++) {
      const int bits = level % 3 == 2 ? 10 : 11, shift = 64 - used - bits;
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < kBuckets; i += kSamplerThreads) shared_.buckets[i] = 0;
      if (threadIdx.x == 0) shared_.crossing = kNoBucket;
      __syncthreads();
      for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n_; i += kSamplerThreads) {
        uint64_t key = 0;
        if (!keyOf_(i, key) || key < low_ || (used > 0 && key >> (64 - used) != prefix)) continue;
        atomicAdd(&shared_.buckets[(key >> shift) & ((1u << bits) - 1)], 1u);
      }
      __syncthreads();
      findCrossing();
      __syncthreads();
      if (shared_.crossing == kNoBucket) {
        isAtEnd_ = true;
        return;
      }
      prefix = (prefix << bits) | shared_.crossing;
      if (shared_.before > 0) {
        low_ = prefix << shift;
        return;
      }
      used += bits;
    }
  }

  // The bucket with which the keys would no longer fit in a chunk, and how many come before it.
  MILLRACE_GPU void findCrossing() {
    constexpr int kOwn = kBuckets / kSamplerThreads;
    const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
    const uint32_t* own = shared_.buckets + threadIdx.x * kOwn;
    uint32_t sum = 0;
    for (int i = 0; i < kOwn; i++) sum += own[i];
    uint32_t upTo = sum;
    for (int apart = 1; apart < kWarp; apart *= 2) {
      const uint32_t other = __shfl_sync(0xffffffffu, upTo, lane < apart ? lane : lane - apart);
      if (lane >= apart) upTo += other;
    }
    if (lane == kWarp - 1) shared_.warpTotals[warp] = upTo;
    __syncthreads();
    uint32_t before = upTo - sum;
    for (int w = 0; w < warp; w++) before += shared_.warpTotals[w];
    if (before > kChunk || before + sum <= kChunk) return;
    for (int i = 0; i < kOwn; i++) {
      if (before + own[i] > kChunk) {
        shared_.crossing = threadIdx.x * kOwn + static_cast<uint32_t>(i);
        shared_.before = before;
        return;
      }
      before += own[i];
    }
  }

  // Bitonic (Batcher 1968).
  MILLRACE_GPU void sort(int32_t count) {
    int size = 1;
    while (size < count) size *= 2;
    for (int i = count + static_cast<int>(threadIdx.x); i < size; i += kSamplerThreads) shared_.keys[i] = ~uint64_t{0};
    __syncthreads();
    for (int run = 2; run <= size; run *= 2)
      for (int apart = run / 2; apart > 0; apart /= 2) {
        for (int i = static_cast<int>(threadIdx.x); i < size; i += kSamplerThreads) {
          const int other = i ^ apart;
          if (other < i) continue;
          const uint64_t a = shared_.keys[i], b = shared_.keys[other];
          if ((a > b) != ((i & run) == 0)) continue;
          shared_.keys[i] = b;
          shared_.keys[other] = a;
        }
        __syncthreads();
      }
  }

  OrderShared& shared_;
  KeyOf keyOf_;
  int32_t n_;
  uint64_t low_ = 0;  // of keys not given yet
  bool isAtEnd_ = false;
};

}  // namespace millrace::cuda
