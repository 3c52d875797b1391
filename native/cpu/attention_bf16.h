// Attention by dot products of bf16 (attention_bf16.cc): the two products of a split, everything between them is that of attention_split.cc. Private to
// attention*.cc.
#pragma once

#include "attention_split.h"

namespace millrace::cpu::MILLRACE_ISA {

// Whether queries and weights are rounded to bf16 and this set multiplies them, with K and V as they are stored, by dot products.
#if defined(MILLRACE_AVX512)
MILLRACE_INLINE bool readsPairs(const AttentionArgs& args) {
  return args.roundsToBf16 && !args.cache.isLatent && args.cache.dtype != KvDtype::f32 && args.cache.dtype != KvDtype::f16;
}
#else
MILLRACE_INLINE bool readsPairs(const AttentionArgs&) { return false; }
#endif

// Pairs of elements in a query; the last is filled up with zero.
MILLRACE_INLINE int64_t queryPairs(const AttentionArgs& args) { return (args.cache.headDim + 1) / 2; }

// Query rows rounded, [rows, queryPairs] words of two bf16.
void gatherQueryPairs(const ItemRows& rows, const SplitScratch& scratch);

// Scores of all rows with keys [begin, end) of the split; then weights, [rows, 2 * kAttentionSplit] bf16 in scratch.scores, times their values.
void scorePairs(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch);
void outputPairs(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch, float* output);

}  // namespace millrace::cpu::MILLRACE_ISA
