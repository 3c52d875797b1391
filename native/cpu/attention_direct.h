// Attention of a single token straight from the cache. Private to attention*.cc.
#pragma once

#include "attention_split.h"

namespace millrace::cpu::MILLRACE_ISA {

// Whether the item's keys are read without panels: one token, keys in the block table only, whole vectors in blocks and heads.
bool readsDirectly(const ItemRows& rows);

constexpr int kPieces = kAttentionSplit / kLanes;

// Where the pieces of a split are, kLanes keys each. Those that nobody sees, whose block may be gone, point to one that is seen.
struct Pieces {
  const uint8_t *keys[kPieces], *keyParameters[kPieces], *values[kPieces], *valueParameters[kPieces];
  const uint8_t* lines[3 * kPieces];  // in the order of reading: of K, of V, of K of the next split
  int ahead;                          // pieces between computing and fetching
};
void findPieces(const ItemRows& rows, int32_t splitStart, int begin, int end, Pieces& pieces);

// As in computeSplit, for keys [begin, end) of the split at `splitStart`: scores into scratch.scores, weights times values into `output`.
void scoresDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch);
void outputDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch, float* output);

// The same where queries and weights are pairs of bf16 (attention_bf16.h).
void scorePairsDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch);
void outputPairsDirect(const ItemRows& rows, const Pieces& pieces, int begin, int end, const SplitScratch& scratch, float* output);

}  // namespace millrace::cpu::MILLRACE_ISA
