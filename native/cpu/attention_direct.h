// Attention of a single token straight from the cache. Private to attention*.cc.
#pragma once

#include "attention_split.h"

namespace millrace::cpu::MILLRACE_ISA {

// Whether the item's keys are read without panels: one token, keys in the block table only, whole vectors in blocks and heads.
bool readsDirectly(const ItemRows& rows);

// As in computeSplit, for keys [begin, end) of the split at `splitStart`: scores into scratch.scores, weights times values into `output`.
void scoresDirect(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch);
void outputDirect(const ItemRows& rows, int32_t splitStart, int begin, int end, const SplitScratch& scratch, float* output);

}  // namespace millrace::cpu::MILLRACE_ISA
