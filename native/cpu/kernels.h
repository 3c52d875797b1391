// The CPU kernels: what each is given, and the table that one instruction set fills. The executor knows kernels only through this file.
//
// One source per op, compiled once per instruction set: every <op>.cc is built with -DMILLRACE_ISA=<name> and that set's flags, and puts its
// functions in namespace millrace::cpu::<name>. kernel_table.cc (compiled per set as well) collects them into a KernelTable.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/contract.h"
#include "../common/counters.h"
#include "../common/weight_formats.h"

namespace millrace::cpu {

// Work is cut into tiles that threads take one by one: who computes a tile never changes its result.
class ThreadPool {
 public:
  using Tile = void (*)(void* context, int64_t tile, int worker);
  virtual ~ThreadPool() = default;
  virtual int numThreads() const = 0;
  // Runs tile(context, i, worker) for all i in [0, numTiles), worker in [0, numThreads()); returns when all are done.
  virtual void run(int64_t numTiles, Tile tile, void* context) = 0;
  // The same, with a run of consecutive tiles for each thread to begin with: for tiles that lie behind each other in memory and are read once.
  virtual void runInShares(int64_t numTiles, Tile tile, void* context) { run(numTiles, tile, context); }
  // How long the thread that calls has waited for others, since ever.
  virtual int64_t waitNanoseconds() const { return 0; }
  // What the next job in shares reads: numTiles tiles of tileBytes from data on. Threads that wait may fetch it. Data may be null.
  virtual void willRead(const uint8_t* /* data */, int64_t /* numTiles */, int64_t /* tileBytes */) {}

  template <class F>
  void parallel(int64_t numTiles, F&& f) {
    run(numTiles, [](void* c, int64_t i, int w) { (*static_cast<F*>(c))(i, w); }, &f);
  }
  template <class F>
  void parallelInShares(int64_t numTiles, F&& f) {
    runInShares(numTiles, [](void* c, int64_t i, int w) { (*static_cast<F*>(c))(i, w); }, &f);
  }
};

// f32 rows; consecutive rows are `stride` floats apart (views of wider values).
struct Rows {
  float* data;
  int64_t stride;
};
struct ConstRows {
  const float* data;
  int64_t stride;
};

// A weight matrix [n, k] in the layout that this instruction set's kernels want; each byte is held once.
struct PackedMatrix {
  WeightFormat format;
  int32_t n, k;
  uint8_t* data;  // 64-byte aligned, packedBytes(format, n, k)
};

struct LinearArgs {
  ConstRows x;      // [rows, k]
  Rows y;           // [rows, n]
  int32_t rows;
  const PackedMatrix* weight;
  const float* bias;  // [n] or null
  Activation activation;
  uint8_t* scratch;   // linearScratchBytes(maxRows, k) bytes, 64-byte aligned: rounded or quantised x
  Counters* counters;
  bool plantedOrderFault;  // tests only: adds segments backwards in the > 64 rows class, which the contract forbids
  const PackedMatrix* next = nullptr;  // the weights of the next linear, or null
};

// Rows of a matrix as a file has them, row by row.
struct StoredRows {
  const uint8_t* data;
  int32_t rows;
};

// A linear of one of several matrices for each slot of a row. What a row becomes depends on its own x and ids.
struct ExpertLinearArgs {
  ConstRows x;                    // [rows, k], or [rows, slots * k] with slotStride k
  int64_t slotStride;             // 0: all slots read the same x
  const int32_t* ids;             // [rows, slots], rows idStride apart, each in [0, experts)
  int64_t idStride;
  int32_t rows, slots, experts;
  const PackedMatrix* matrices;   // [experts], all of one shape and format; without data where they are stored:
  const StoredRows* stored;       // [experts, runs], or null: runs of rows that together are an expert's matrix, in a mapped file
  int32_t runs;
  uint8_t* tileScratch;           // for stored matrices: a packed tile, expertTileBytes(format, k), for each thread
  const float* bias;              // [experts * n] or null
  Activation activation;
  const Rows* outputs;            // the n outputs of a slot are divided among them: output i takes widths[i] of each slot
  const int32_t* widths;
  int32_t numOutputs;
  uint8_t* scratch;               // expertScratchBytes(maxRows, slots, k, experts) bytes, 64-byte aligned
  Counters* counters;
};

struct MoeRouteArgs {
  ConstRows logits;               // [rows, experts]
  int32_t* ids;                   // [rows, slots], rows idStride apart
  int64_t idStride;
  Rows weights;                   // [rows, slots]
  int32_t rows, experts, slots;
  const float* bias;              // [experts] or null
  bool isSigmoid, normalise, bestTwo;
  int32_t groups, keptGroups;
  float scale;
};

// K and V of one layer of one cache group: numBlocks blocks of kvBlockBytes each, layout inside a block private to attention.cc.
struct KvLayer {
  uint8_t* data;
  KvDtype dtype;
  int32_t blockSize, numKvHeads, headDim;
  bool isLatent = false;  // one row of headDim elements a token, which is key and value of all heads; numKvHeads 1
};

struct KvWriteArgs {
  ConstRows k, v;               // [tokens, numKvHeads * headDim]
  int32_t tokens;
  const int32_t* slotMapping;   // [tokens]
  KvLayer cache;
};

struct LatentWriteArgs {
  ConstRows latent, key;        // [tokens, rank], [tokens, headDim - rank]
  int32_t tokens, rank;
  const int32_t* slotMapping;   // [tokens]
  KvLayer cache;
};

struct RopeArgs {
  ConstRows x;                  // [tokens, heads * headDim]
  Rows y;
  int32_t tokens, width, headDim, rotaryDim;
  bool interleaved;
  float magnitude;
  const float* frequencies;     // [rotaryDim / 2]
  const int32_t* positions;     // [tokens]
};

// Keys of each token's cache index, turned on and stored at its slot.
struct KvRotateArgs {
  RopeArgs turn;                // positions, frequencies, style, head sizes; magnitude 1; rotaryDim 0: keys stay as they are
  int32_t tokens;
  const int32_t* rowStart;      // [rows + 1]
  const int32_t* cacheIndex;    // [tokens]
  const int32_t* blockTable;    // [rows, maxBlocks] of this group
  int32_t maxBlocks;
  const int32_t* slotMapping;   // [tokens]
  KvLayer cache;
};

// Leaves the keys of each row that its tokens attend to most.
struct KvCompressArgs {
  ConstRows q;                  // [tokens, numHeads * headDim]
  int32_t rows, numHeads;
  float scale, softCap;
  const int32_t* kept;          // [rows, 2]: keys that stay, width of pooling
  const int32_t* rowStart;      // [rows + 1]
  const int32_t* cacheIndex;    // [tokens]
  const int32_t* blockTable;    // [rows, maxBlocks] of this group
  int32_t maxBlocks;
  KvLayer cache;
};

struct AttentionArgs {
  ConstRows q;                  // [tokens, numHeads * headDim]
  Rows out;
  int32_t tokens, rows, numHeads;
  float scale, softCap;         // softCap 0: none
  int32_t window;               // 0: none; below 0: keys less than -window away on either side, without ancestors
  const float* sinks;           // [numHeads] or null
  const float* slopes;          // [numHeads] or null: slope * (index of the key - cacheIndex) joins the score (ALiBi)
  KvLayer cache;
  const int32_t* rowStart;      // [rows + 1]
  const int32_t* cacheIndex;    // [tokens]
  const int32_t* visibleEnd;    // [tokens]
  const int32_t* blockTable;    // [rows, maxBlocks] of this group
  int32_t maxBlocks;
  const int32_t* ancestorStart; // [tokens + 1] or null (S4)
  const int32_t* ancestorSlots;
  uint8_t* scratch;             // attentionScratchBytes(...) bytes, 64-byte aligned
  Counters* counters;
  // Of a latent cache: q is [tokens, numHeads * rank], against the first `rank` elements of a row, which are also the value; out is as wide.
  ConstRows qRotary = {nullptr, 0};  // [tokens, numHeads * (headDim - rank)]
  int32_t rank = 0;
  bool roundsToBf16 = false;  // queries, and weights times the scale of their value, are rounded to bf16 (ops/attention.ts); never of a latent cache
};

struct KernelTable {
  const char* isa;  // "portable", "avx2", "avx512"

  // linear.cc
  size_t (*packedBytes)(WeightFormat format, int32_t n, int32_t k);
  // Packs rows [rowBegin, rowBegin + numRows) of the matrix from row-major storage in `format`. Ranges may be packed in parallel if they start at
  // multiples of packRowMultiple; the caller zero-fills padding by packing every row.
  void (*packRows)(PackedMatrix* w, int32_t rowBegin, int32_t numRows, const uint8_t* source);
  int32_t packRowMultiple;
  // One row of the matrix back as f32 (embedding lookup from a tied, packed matrix).
  void (*unpackRow)(const PackedMatrix& w, int32_t row, float* out);
  size_t (*linearScratchBytes)(int32_t maxRows, int32_t k);
  void (*linear)(const LinearArgs&, ThreadPool&);
  // A matrix for each of numHeads heads: x [rows, numHeads * k], weight [n, k], y [rows, n]; head h has outputs [h * n / numHeads, ...). No bias.
  void (*headLinear)(const LinearArgs&, int32_t numHeads, ThreadPool&);
  size_t (*expertScratchBytes)(int32_t maxRows, int32_t slots, int32_t k, int32_t experts);
  size_t (*expertTileBytes)(WeightFormat format, int32_t k);
  void (*expertLinear)(const ExpertLinearArgs&, ThreadPool&);
  // For inspect and docs: such as "linear_bf16_avx512bf16".
  const char* (*linearName)(WeightFormat format, Activation activation);
  bool (*linearSupports)(WeightFormat format, Activation activation);

  // moe_route.cc
  void (*moeRoute)(const MoeRouteArgs&, ThreadPool&);

  // attention.cc
  size_t (*kvBlockBytes)(const KvLayer& cache);  // of its shape alone
  void (*kvWrite)(const KvWriteArgs&, ThreadPool&);
  void (*latentWrite)(const LatentWriteArgs&, ThreadPool&);
  void (*kvCopyBlock)(const KvLayer& cache, int32_t source, int32_t destination, int32_t tokens);
  size_t (*attentionScratchBytes)(int32_t maxTokens, int32_t numHeads, int32_t headDim, int32_t numThreads);
  void (*attention)(const AttentionArgs&, ThreadPool&);

  // rope.cc
  void (*rope)(const RopeArgs&, ThreadPool&);
  // rope(q), rope(k), write of k and v in one pass over the tokens; kRope.y may be null.
  void (*ropeKvWrite)(const RopeArgs& q, const RopeArgs& k, const KvWriteArgs& kv, ThreadPool&);

  // kv_retain.cc
  void (*kvRotate)(const KvRotateArgs&, ThreadPool&);
  void (*kvCompress)(const KvCompressArgs&, ThreadPool&);

  // elementwise.cc; `function`: 0 silu, 1 gelu-tanh, 2 gelu
  void (*rmsNorm)(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset, float epsilon, ThreadPool&);
  void (*addRmsNorm)(ConstRows a, ConstRows b, Rows sum, Rows normed, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset, float epsilon, ThreadPool&);
  void (*add)(ConstRows a, ConstRows b, Rows y, int32_t rows, int32_t width, ThreadPool&);
  void (*scale)(ConstRows x, Rows y, int32_t rows, int32_t width, float factor, ThreadPool&);
  void (*softCap)(ConstRows x, Rows y, int32_t rows, int32_t width, float cap, ThreadPool&);
  void (*gatedActivation)(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, int32_t function, ThreadPool&);
  void (*activation)(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t function, ThreadPool&);  // 3: relu
  void (*clampedSwiglu)(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, float alpha, float limit, ThreadPool&);
  void (*expertCombine)(ConstRows y, ConstRows weights, Rows out, int32_t rows, int32_t width, int32_t slots, ThreadPool&);
  void (*layerNorm)(ConstRows x, Rows y, int32_t rows, int32_t width, const float* weight, const float* bias, float epsilon, ThreadPool&);  // bias may be null
};

namespace portable { const KernelTable& kernelTable(); }
#if defined(__x86_64__) || defined(_M_X64)
namespace avx2 { const KernelTable& kernelTable(); }
namespace avx512 { const KernelTable& kernelTable(); }
#endif

}  // namespace millrace::cpu
