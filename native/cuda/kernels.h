// The GPU kernels as the executor sees them. Pointers are the device's. All take their turn on the stream and return at once.
//
// One source per op, <op>.cu, named as the op. A row's result depends on that row alone: no kernel chooses another order of summation by the number
// of rows (idea 5 of ARCHITECTURE.md).
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/contract.h"
#include "../common/sampling_shape.h"
#include "../common/weight_formats.h"
#include "runtime.h"

namespace millrace::cuda {

// f32 rows; consecutive rows are `stride` floats apart.
struct Rows {
  float* data;
  int64_t stride;
};
struct ConstRows {
  const float* data;
  int64_t stride;
};

// A weight matrix [n, k]: bf16 in the tiles of linear_tiles.h, f32 and f16 row by row.
struct Matrix {
  WeightFormat format;
  int32_t n, k;
  const uint8_t* data;
};

struct LinearArgs {
  ConstRows x;        // [rows, k]
  Rows y;             // [rows, n]
  int32_t rows;
  Matrix weight;
  const float* bias;  // [n] or null
  Activation activation;
  uint8_t* scratch;   // linearScratchBytes(maxRows, k)
};

// One layer of a cache group. A block is K [numKvHeads][blockSize][headDim], then V alike, in the cache dtype.
struct KvLayer {
  uint8_t* data;
  KvDtype dtype;
  int32_t blockSize, numKvHeads, headDim;
};

struct RopeArgs {
  ConstRows x;
  Rows y;                    // data null: nowhere
  int32_t tokens, width, headDim, rotaryDim;
  bool interleaved;
  float magnitude;
  const float* frequencies;  // [rotaryDim / 2]
  const int32_t* positions;  // [tokens]
};

struct KvWriteArgs {
  ConstRows k, v;
  int32_t tokens;
  const int32_t* slotMapping;
  KvLayer cache;
};

struct AttentionArgs {
  ConstRows q;
  Rows out;
  int32_t tokens, numHeads;
  float scale, softCap;
  int32_t window;
  const float* sinks;            // [numHeads] or null
  const float* slopes;           // [numHeads] or null
  KvLayer cache;
  const int32_t* rowOfToken;     // [tokens]
  const int32_t* cacheIndex;
  const int32_t* visibleEnd;
  const int32_t* blockTable;     // [rows, maxBlocks]
  int32_t maxBlocks;
  const int32_t* ancestorStart;  // [tokens + 1] or null
  const int32_t* ancestorSlots;
  int32_t numSplits;             // of the longest token of the step
  float* partials;               // attentionPartials(...) floats, or null
  const int32_t* tiles;          // [numTiles, 2]: first token and number of tokens, of one row, at most attentionTileTokens(...); of drafts one each
  int32_t numTiles;
};

// linear.cu
size_t linearScratchBytes(int32_t maxRows, int32_t k);
bool linearSupports(WeightFormat format, Activation activation);
const char* linearName(WeightFormat format, Activation activation);
void linear(const LinearArgs&, const Stream&);

// embedding.cu
void embedding(const int32_t* ids, const Matrix& table, float factor, Rows y, int32_t rows, const Stream&);
// y = x + row of the table at the position, which is brought into it.
void positionEmbedding(ConstRows x, const int32_t* positions, const Matrix& table, Rows y, int32_t rows, const Stream&);

// norm.cu
void rmsNorm(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset, float epsilon, const Stream&);
void addRmsNorm(ConstRows a, ConstRows b, Rows sum, Rows normed, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset,
                float epsilon, const Stream&);
void layerNorm(ConstRows x, Rows y, int32_t rows, int32_t width, const float* weight, const float* bias, float epsilon, const Stream&);

// elementwise.cu; functions: 0 silu, 1 gelu-tanh, 2 gelu, 3 relu
void add(ConstRows a, ConstRows b, Rows y, int32_t rows, int32_t width, const Stream&);
void scale(ConstRows x, Rows y, int32_t rows, int32_t width, float factor, const Stream&);
void softCap(ConstRows x, Rows y, int32_t rows, int32_t width, float cap, const Stream&);
void activation(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t function, const Stream&);
void gatedActivation(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, int32_t function, const Stream&);
void clampedSwiglu(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, float alpha, float limit, const Stream&);
void gatherColumns(ConstRows x, Rows y, int32_t rows, int32_t width, const float* order, const Stream&);
// Rows `index` of x; null: all, in order.
void copyRows(ConstRows x, const int32_t* index, Rows y, int32_t rows, int32_t width, const Stream&);
// An id -1 - r becomes that of row r of `sampled`.
void resolveIds(int32_t* ids, int32_t count, const int32_t* sampled, const Stream&);

// rope.cu
void rope(const RopeArgs&, const Stream&);
// rope(q), rope(k), and k and v into the cache. kRope.y is null.
void ropeKvWrite(const RopeArgs& q, const RopeArgs& k, const KvWriteArgs& kv, const Stream&);
void kvWrite(const KvWriteArgs&, const Stream&);

// kv_cache.cu
bool kvSupports(KvDtype dtype);
size_t kvBlockBytes(const KvLayer& cache);
// copies [numCopies, 4] on the device: group, source block, destination block, tokens; those of `group`, in one layer.
void kvCopyBlocks(const KvLayer& cache, const int32_t* copies, int32_t numCopies, int32_t group, const Stream&);

// attention.cu, attention_tiles.cu
// Tokens in a tile of attention, for so many query heads a KV head.
int32_t attentionTileTokens(int32_t headsPerKvHead);
// Most floats of `partials` in any step.
constexpr int64_t kMostPartials = int64_t{16} << 20;
// Floats of `partials` for a step of so many tokens and splits; 0: the step is computed without.
size_t attentionPartials(int32_t tokens, int32_t numHeads, int32_t headDim, int32_t numSplits);
void attention(const AttentionArgs&, const Stream&);

// sampler.cu
// Columns and masks are on the device; `columns.numRows` rows of logits.
struct SamplerArgs {
  ConstRows logits;
  int32_t vocabSize, maxTop;
  SamplingColumns columns;
  const uint32_t* masks;  // [rows, ceil(vocabSize / 32)] or null
  int32_t *tokenIds, *states;
  float *logprobs, *mirostatMu;
  int32_t* topTokenIds;   // [rows, maxTop]
  float* topLogprobs;
  float* scratch;         // samplerScratchFloats(vocabSize) a block
  int32_t* counts;        // vocabSize a block, zeros before and after
};
MILLRACE_BOTH inline int64_t samplerScratchFloats(int32_t vocabSize) { return int64_t{3} * vocabSize + (vocabSize + samplingMath::kSumBlock - 1) / samplingMath::kSumBlock; }
// At most `numBlocks` rows at a time.
void sampleRows(const SamplerArgs&, int32_t numBlocks, const Stream&);
// Rows of temperature 0 and nothing else: the largest logit, ties to the lower id; state 0 fine, 1 a NaN, 2 nothing above -Infinity.
void greedy(ConstRows logits, int32_t rows, int32_t vocabSize, int32_t* tokenIds, int32_t* states, const Stream& stream);

}  // namespace millrace::cuda
