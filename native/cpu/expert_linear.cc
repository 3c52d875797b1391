// expert-linear: y[t, s] = weight[ids[t, s]] . round(x[t, s]) + bias[ids[t, s]]: `linear` with a matrix that each (row, slot) chooses.
//
// A grouped GEMM: pairs (row, slot) are sorted by expert, their rounded rows gathered in that order; an item of work is one tile of 64 outputs of one expert that
// the step touches, with all rows of that expert, up to kFewRows at a time. Kernels, packed layout and the order of every sum are those of `linear`, at every
// number of rows; who else chose an expert changes nothing. A tile's outputs are made beside y and then go to the places of their pairs. Matrices of experts
// that nobody chose are never touched.
//
// Matrices may also stay in a mapped file, row by row: then a tile is packed into scratch of the thread when a step needs it, with the very bytes that
// packing at load gives, and the pages of experts that are seldom chosen need no memory.
#include "linear.h"
#include "linear_table.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

// The pairs of a call in the order of their experts.
struct Sorted {
  int32_t* pairs;     // [rows * slots]: row * slots + slot, ascending within an expert
  int32_t* start;     // [experts + 1]
  int32_t* touched;   // experts that have pairs
  int32_t numTouched;
};

int64_t sortedBytes(int64_t pairs, int64_t experts) { return roundUp((pairs + 2 * (experts + 1)) * 4, 64); }

// Counting sort: stable, so that pairs of an expert keep the order of rows.
Sorted sortPairs(const ExpertLinearArgs& args) {
  Sorted s{reinterpret_cast<int32_t*>(args.scratch), nullptr, nullptr, 0};
  s.start = s.pairs + int64_t{args.rows} * args.slots;
  s.touched = s.start + args.experts + 1;
  std::memset(s.start, 0, sizeof(int32_t) * (static_cast<size_t>(args.experts) + 1));
  const auto forPairs = [&](auto f) {
    for (int32_t row = 0; row < args.rows; row++)
      for (int32_t slot = 0; slot < args.slots; slot++) f(args.ids[row * args.idStride + slot], row * args.slots + slot);
  };
  forPairs([&](int32_t expert, int32_t) { s.start[expert]++; });
  int32_t end = 0;
  for (int32_t e = 0; e < args.experts; e++) {
    if (s.start[e] > 0) s.touched[s.numTouched++] = e;
    end += s.start[e];
    s.start[e] = end - s.start[e];
  }
  s.start[args.experts] = end;
  forPairs([&](int32_t expert, int32_t pair) { s.pairs[s.start[expert]++] = pair; });
  for (int32_t e = args.experts; e > 0; e--) s.start[e] = s.start[e - 1];  // filling moved each start to its end
  s.start[0] = 0;
  return s;
}

// One call, with what its items share.
struct Call {
  const ExpertLinearArgs& args;
  Choice choice;
  RoundedRows x;
  Sorted sorted;
  int64_t bytesPerTile, paddedColumns;

  RoundedRows rowsFrom(int64_t row) const {
    RoundedRows rows = x;
    rows.data += row * x.stride;
    if (rows.scales != nullptr) rows.scales += row * x.groups;
    if (rows.rowScales != nullptr) rows.rowScales += row;
    if (rows.corrections != nullptr) rows.corrections += row * x.groups;
    if (rows.halfSums != nullptr) rows.halfSums += row * x.groups * 2;
    return rows;
  }

  // The packed bytes of a tile, wherever they come from.
  const uint8_t* weightsOf(int32_t expert, int64_t tile, int32_t numOutputs, int worker) const {
    const PackedMatrix& w = args.matrices[expert];
    if (args.stored == nullptr) return w.data + tile * bytesPerTile;
    const int64_t rowBytes = bytesOf(w.format, w.k);
    PackedMatrix packed{w.format, numOutputs, w.k, args.tileScratch + expertTileBytes(w.format, w.k) * static_cast<size_t>(worker)};
    int64_t begin = 0, first = tile * kTileOutputs;
    for (int32_t run = 0; run < args.runs; run++) {
      const StoredRows& rows = args.stored[int64_t{expert} * args.runs + run];
      const int64_t from = larger(first, begin), to = smaller(first + numOutputs, begin + rows.rows);
      const uint8_t* source = rows.data + (from - begin) * rowBytes;
      if (from < to) packRows(&packed, static_cast<int32_t>(from - first), static_cast<int32_t>(to - from), source);
      begin += rows.rows;
    }
    return packed.data;
  }

  // One tile of one expert for all rows that chose it.
  void tile(int32_t expert, int64_t tile, int worker) const {
    const PackedMatrix& w = args.matrices[expert];
    alignas(64) float sums[kFewRows * kTileOutputs];
    alignas(64) float made[kFewRows * kTileOutputs];
    const int64_t first = tile * kTileOutputs;
    const int32_t numOutputs = static_cast<int32_t>(smaller<int64_t>(kTileOutputs, w.n - first));
    const uint8_t* weights = weightsOf(expert, tile, numOutputs, worker);
    for (int32_t begin = sorted.start[expert]; begin < sorted.start[expert + 1]; begin += kFewRows) {
      TileJob job{};
      job.rowEnd = smaller(kFewRows, sorted.start[expert + 1] - begin);
      job.x = rowsFrom(begin);
      job.channelScales = channelScalesOf(w.format, weights, paddedColumns);
      job.y = made;
      job.yStride = kTileOutputs;
      job.numOutputs = numOutputs;
      for (int64_t k = 0; k < paddedColumns; k += kLinearSegment) {
        TileJob segment = job;
        segment.weights = weights + stepsBytes(w.format, k);
        segment.kBegin = static_cast<int32_t>(k);
        segment.kCount = static_cast<int32_t>(smaller<int64_t>(kLinearSegment, paddedColumns - k));
        segment.first = k == 0;
        segment.bias = args.bias != nullptr && k + kLinearSegment >= paddedColumns ? args.bias + int64_t{expert} * w.n + first : nullptr;
        runPieces(w.format, choice, segment, sums);
      }
      for (int32_t r = 0; r < job.rowEnd; r++) place(sorted.pairs[begin + r], first, job.numOutputs, made + r * kTileOutputs);
    }
  }

  // Outputs [first, first + count) of a pair to where they belong.
  void place(int32_t pair, int64_t first, int32_t count, const float* made) const {
    const int64_t row = pair / args.slots, slot = pair % args.slots;
    int64_t begin = 0;
    for (int32_t i = 0; i < args.numOutputs; i++) {
      const int64_t width = args.widths[i], from = larger(first, begin), to = smaller(first + count, begin + width);
      if (from < to) {
        float* y = args.outputs[i].data + row * args.outputs[i].stride + slot * width;
        std::memcpy(y + (from - begin), made + (from - first), static_cast<size_t>(to - from) * sizeof(float));
      }
      begin += width;
    }
  }
};

}  // namespace

size_t expertScratchBytes(int32_t maxRows, int32_t slots, int32_t k, int32_t experts) {
  const int64_t pairs = int64_t{maxRows} * slots;
  return static_cast<size_t>(sortedBytes(pairs, experts)) + linearScratchBytes(static_cast<int32_t>(pairs), k);
}

size_t expertTileBytes(WeightFormat format, int32_t k) { return static_cast<size_t>(roundUp(static_cast<int64_t>(packedBytes(format, kTileOutputs, k)), 64)); }

void expertLinear(const ExpertLinearArgs& args, ThreadPool& pool) {
  if (args.rows == 0) return;
  const PackedMatrix& shape = args.matrices[0];
  Call call{args, choose(shape.format, args.activation), {}, sortPairs(args), tileBytes(shape.format, shape.k), paddedK(shape.format, shape.k)};
  LinearArgs rounding{};
  rounding.x = args.x;
  rounding.rows = args.rows * args.slots;
  rounding.weight = &shape;
  rounding.activation = args.activation;
  rounding.scratch = args.scratch + sortedBytes(rounding.rows, args.experts);
  const Gather gather{call.sorted.pairs, args.slots, args.slotStride};
  call.x = roundActivations(rounding, call.choice.stored, call.choice.offset, pool, &gather);
  const int64_t tiles = ceilDiv(shape.n, kTileOutputs);
  const int64_t items = tiles * call.sorted.numTouched, run = larger<int64_t>(1, smaller<int64_t>(8, items / (int64_t{pool.numThreads()} * 8)));
  pool.parallel(ceilDiv(items, run), [&](int64_t group, int worker) {
    for (int64_t item = group * run; item < smaller(items, (group + 1) * run); item++) call.tile(call.sorted.touched[item / tiles], item % tiles, worker);
  });
  if (args.counters == nullptr) return;
  for (int32_t i = 0; i < call.sorted.numTouched; i++) {
    const int32_t e = call.sorted.touched[i], rows = call.sorted.start[e + 1] - call.sorted.start[e];
    args.counters->linearRowClass[rows == 1 ? 0 : rows <= 8 ? 1 : rows <= kFewRows ? 2 : 3]++;
    args.counters->linearSegments += static_cast<uint64_t>(ceilDiv(call.paddedColumns, kLinearSegment));
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
