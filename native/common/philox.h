// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011), word for word src/base/random.ts.
#pragma once

#include <cstdint>

#include "both.h"

namespace millrace {

// The uniform number in [0, 1) of one random choice. Key: the seed. Counter: position, draw, choice, 0.
MILLRACE_BOTH inline float uniformAt(uint32_t seedLow, uint32_t seedHigh, uint32_t choice, uint32_t position, uint32_t draw) {
  uint32_t c0 = position, c1 = draw, c2 = choice, c3 = 0;
  uint32_t k0 = seedLow, k1 = seedHigh;
  for (int round = 0; round < 10; round++) {
    const uint64_t product0 = uint64_t{0xd2511f53u} * c0;
    const uint64_t product1 = uint64_t{0xcd9e8d57u} * c2;
    c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(product1);
    c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(product0);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  return static_cast<float>(c0 >> 8) * 5.9604644775390625e-8f;  // upper 24 bits times 2^-24
}

}  // namespace millrace
