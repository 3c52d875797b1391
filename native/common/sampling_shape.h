// A row of SamplingBatch.shaping, and what mirostat computes of it: operation for operation src/sampling/shaping.ts.
#pragma once

#include "both.h"
#include "sampling.h"
#include "sampling_math.h"

namespace millrace {

// The fields of `Shaping` in the order of `shapingFields`.
struct Shaping {
  float typicalP = 1, topNSigma = 0, xtcThreshold = 0, xtcProbability = 0, dynatempRange = 0, dynatempExponent = 1;
  float mirostatMode = 0, mirostatMu = 0, mirostatTau = 0, mirostatEta = 0;

  MILLRACE_BOTH bool needsOrder() const { return typicalP < 1 || topNSigma > 0 || xtcProbability > 0 || mirostatMode != 0; }
};
static_assert(sizeof(Shaping) == kShapingWidth * sizeof(float), "a row of shaping is copied whole");

MILLRACE_BOTH inline float surprise(float weight, float total) { return (samplingMath::logF32(total) - samplingMath::logF32(weight)) * samplingMath::kLog2E; }

MILLRACE_BOTH inline float nextMu(const Shaping& shaping, float observed) {
  return shaping.mirostatMu - shaping.mirostatEta * (observed - shaping.mirostatTau);
}

}  // namespace millrace
