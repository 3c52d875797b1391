// The loops of the sampler that run over a whole vocabulary, compiled once per instruction set. All give the same bits on every one.
#pragma once

#include <cstdint>

namespace millrace::cpu {

struct SamplerKernels {
  // Largest of values [n], n >= 1; NaN if any is. Of several zeros, either sign may come back.
  float (*maximum)(const float* values, int32_t n);
  // First index whose value equals `wanted`, or n.
  int32_t (*firstEqual)(const float* values, int32_t n, float wanted);
  // weights[i] = exp((logits[i] - maximum) / temperature), 0 where that is below `least`.
  void (*weights)(const float* logits, int32_t n, float maximum, float temperature, float least, float* weights);
  // Sum in blocks of kSumBlock, in order; block sums go to `blockSums` unless it is null.
  float (*sumBlocks)(const float* values, int32_t n, float* blockSums);
  // Writes the ids whose logit is at least `least` and above -Infinity, ascending; returns how many.
  int32_t (*gather)(const float* logits, int32_t n, float least, int32_t* ids);
};

namespace portable { const SamplerKernels& samplerKernels(); }
#if defined(__x86_64__) || defined(_M_X64)
namespace avx2 { const SamplerKernels& samplerKernels(); }
namespace avx512 { const SamplerKernels& samplerKernels(); }
#endif

}  // namespace millrace::cpu
