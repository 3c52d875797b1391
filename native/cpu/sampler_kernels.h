// The loops of the sampler that run over a whole vocabulary, compiled once per instruction set. All give the same bits on every one.
#pragma once

#include <cstdint>

namespace millrace::cpu {

// `mask` has the bits of the ids that count, [ceil(n / 32)]; null stands for all of them.
constexpr int32_t kMaximaLanes = 64, kMaximaSpan = 16384;

struct SamplerKernels {
  // Largest of values [n], n >= 1; NaN if any is. Of several zeros, either sign may come back.
  float (*maximum)(const float* values, int32_t n);
  // The same, and in `allowed` the largest of those that count: -Infinity when none does, NaN if one of them is.
  float (*maxima)(const float* values, const uint32_t* mask, int32_t n, float* allowed);
  // Maxima of parts of values [n], each number in one part: [kMaximaLanes * ceil(n / kMaximaSpan)], -Infinity for a part without a number.
  void (*partMaxima)(const float* values, int32_t n, float* maxima);
  // First index that counts and whose value equals `wanted`, or n.
  int32_t (*firstEqual)(const float* values, const uint32_t* mask, int32_t n, float wanted);
  // weights[i] = exp((logits[i] - maximum) / temperature), 0 where that is below `least` or i does not count. Their sum in blocks of kSumBlock, in
  // order; block sums go to `blockSums` unless it is null. Blocks in which nothing counts are left as they are, but for the last.
  float (*weights)(const float* logits, const uint32_t* mask, int32_t n, float maximum, float temperature, float least, float* weights, float* blockSums);
  // Sum in blocks of kSumBlock, in order.
  float (*sumBlocks)(const float* values, int32_t n);
  // Writes the ids that count and whose logit is at least `least` and above -Infinity, ascending; returns how many.
  int32_t (*gather)(const float* logits, const uint32_t* mask, int32_t n, float least, int32_t* ids);
  // Copies logits [n], -Infinity in the place of those that do not count. In and out may be one.
  void (*masked)(const float* logits, const uint32_t* mask, int32_t n, float* out);
};

namespace portable { const SamplerKernels& samplerKernels(); }
#if defined(__x86_64__) || defined(_M_X64)
namespace avx2 { const SamplerKernels& samplerKernels(); }
namespace avx512 { const SamplerKernels& samplerKernels(); }
#endif

}  // namespace millrace::cpu
