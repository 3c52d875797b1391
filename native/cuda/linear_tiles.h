// How bf16 matrices lie in memory: in the order in which lanes hold the tiles that tensor cores multiply (gpu.h, multiplyTile), so that a lane loads 16
// bytes at a time, neighbouring lanes neighbouring bytes, and shared memory needs no swizzle.
//
//   weights [n, k]:    [ceil(n / 8)][ceil(k / 32)][32 lanes][8]: of k16 tile 0, then 1: b0 (two k), b1
//   activations [m, k]: [ceil(m / 16)][ceil(k / 32)][2 k16 tiles][32 lanes][8]: a0, a1, a2, a3
//
// What lies beyond n, m or k is zero.
#pragma once

#include <cstdint>

#include "../common/both.h"

namespace millrace::cuda {

constexpr int kTileN = 8, kTileM = 16, kTileK = 32;
constexpr int kTileElements = 256;       // of a weight tile [8, 32]
constexpr int kActivationTile = 512;     // of an activation tile [16, 32]

MILLRACE_BOTH inline int64_t tilesOf(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// Place of weight (n, k) among all, in elements.
MILLRACE_BOTH inline int64_t weightPlace(int64_t n, int64_t k, int64_t kTiles) {
  const int64_t tile = n / kTileN * kTiles + k / kTileK;
  const int64_t inner = k % 16, lane = n % kTileN * 4 + inner % 8 / 2;
  return tile * kTileElements + lane * 8 + k % kTileK / 16 * 4 + inner / 8 * 2 + inner % 2;
}

}  // namespace millrace::cuda
