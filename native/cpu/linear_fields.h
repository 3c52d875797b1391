// The kernels over packed fields, for any format of field_groups.h; linear_fields*.cc choose among them. What a group of 32 adds to an output is said there;
// sums of integers are exact, two fused additions in f32 a group at most, in order. Two ways, with the same bits:
//   direct     one row: levels are put together in registers while the packed bytes stream in
//   expanded   more rows: a piece of a tile is expanded into scratch of the thread (L1), then meets all rows. Per group of 32:
//              [1 or 2][64] f32 scales; [64] f32 minimums; [64] integers; [8][64][4] levels
// Float activations: a piece becomes [k][64] f32 in scratch, then linear_float.cc's f32 kernel.
#pragma once

#include "field_groups.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kPieceSteps = 256;   // of K that are expanded at once
constexpr int kRowsAtOnce = 384;   // whose sums are kept between pieces

struct FieldScratch {
  alignas(64) uint8_t weights[kPieceSteps * kTileOutputs * 4];
  alignas(64) float sums[kRowsAtOnce * kTileOutputs];
};
MILLRACE_INLINE FieldScratch& fieldScratch() {
  alignas(64) static thread_local FieldScratch scratch;
  return scratch;
}

// What a group adds to totals, given the integer sums. X: integer sums of its activations. Everything is read where it is used: vectors kept over the
// products would push the sums out of their registers.
template <Extra kExtra, int kParts>
struct GroupEnd {
  const RoundedRows& x;
  int64_t index;  // of the group, in the first row
  int part;

  MILLRACE_INLINE int64_t at(int m) const { return index + m * x.groups; }
  MILLRACE_INLINE int32_t sumOfX(int m) const { return kParts == 2 ? x.halfSums[2 * at(m) + part] : x.corrections[at(m)]; }  // offset -1: the sum itself
  MILLRACE_INLINE int32_t pairOfX(int m) const {
    const int32_t* halves = x.halfSums + 2 * at(m);
    return (halves[0] & 0xffff) | static_cast<int32_t>(static_cast<uint32_t>(halves[1]) << 16);
  }
  MILLRACE_INLINE Sum start(int m, int offset, VecI integers) const {
    if constexpr (kExtra == Extra::zero) return mulPairsSum(integers, -sumOfX(m) & 0xffff);
    else if constexpr (kExtra == Extra::pairs) return startSum(0);
    else return startSum(-offset * sumOfX(m));
  }
  MILLRACE_INLINE void add(int m, Vec& total, Sum sum, Vec scale, Vec minimum, VecI integers) const {
    const float scaleOfX = x.scales[at(m)];
    total = fma(sumToFloat(sum), mul(scale, set1(scaleOfX)), total);
    if constexpr (kExtra == Extra::minimum) total = fma(minimum, set1(scaleOfX * static_cast<float>(sumOfX(m))), total);
    if constexpr (kExtra == Extra::pairs) total = fma(sumToFloat(mulPairsSum(integers, pairOfX(m))), mul(minimum, set1(scaleOfX)), total);
  }
};

template <WeightFormat kFormat>
struct DirectTile {
  using Traits = FieldTraits<kFormat>;
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    Vec totals[MR][kTileVectors];
    startRows<MR, kTileVectors>(job, row, column, totals);
    Fetch fetch(job, block, column);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* weights = job.weights;
    for (int g = 0; g < job.kCount / kQ8Group; g += Traits::kGroups, x += Traits::kGroups * kQ8Group, weights += Traits::kBlockBytes) {
      for (int i = 0; i < kOtherSteps(); i++) fetch.step();
      addGroups<MR, 0>(weights, firstGroup + g, x, fetch, totals);
    }
    finishTile<MR, kTileVectors>(job, row, column, totals);
  }

  // Steps' worth of bytes of a block beyond its levels: what is fetched ahead must keep pace with what is read.
  static constexpr int kOtherSteps() { return (Traits::kBlockBytes - freshSteps<0>() * kStepBytes + kStepBytes - 1) / kStepBytes; }
  template <int j>
  static constexpr int freshSteps() {
    int fresh = 0;
    for (int step = 0; step < 8; step++) fresh += FieldGroup<kFormat, j>::isFresh(step) ? 1 : 0;
    if constexpr (j + 1 < Traits::kGroups) fresh += freshSteps<j + 1>();
    return fresh;
  }

  // Groups from j of a block: unrolled, so that shifts and places are constants.
  template <int MR, int j>
  MILLRACE_INLINE void addGroups(const uint8_t* block, int64_t index, const uint8_t* x, Fetch& fetch, Vec (&totals)[MR][kTileVectors]) {
    for (int part = 0; part < Traits::kParts; part++) addPart<MR>(FieldGroup<kFormat, j>{block}, part, index + j, x + j * 32 + part * 16, fetch, totals);
    if constexpr (j + 1 < Traits::kGroups) addGroups<MR, j + 1>(block, index, x, fetch, totals);
  }

  template <int MR, class Group>
  MILLRACE_INLINE void addPart(const Group& group, int part, int64_t index, const uint8_t* x, Fetch& fetch, Vec (&totals)[MR][kTileVectors]) {
    constexpr int NR = kTileVectors, steps = 8 / Traits::kParts;
    const GroupEnd<Traits::kExtra, Traits::kParts> end{job.x, index, part};
    Sum sums[MR][NR];
    VecI integers[NR];
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      integers[j] = group.integers(column + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) sums[m][j] = end.start(m, Traits::kOffset, integers[j]);
    }
    for (int step = 0; step < steps; step++) {
      if (Group::isFresh(part * steps + step)) fetch.step();
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        const Bytes levels = group.levels(part * steps + step, column + j * kLanes);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) sums[m][j] = addProducts<Traits::kWide>(sums[m][j], levels, x + m * job.x.stride + step * 4);
      }
    }
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const Vec scale = group.scale(part, column + j * kLanes), minimum = group.minimum(column + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) end.add(m, totals[m][j], sums[m][j], scale, minimum, integers[j]);
    }
  }
};

// The expanded form of a group.
template <int kParts, Extra kExtra>
struct Expanded {
  static constexpr bool kHasMinimum = kExtra == Extra::minimum || kExtra == Extra::pairs, kHasIntegers = kExtra == Extra::zero || kExtra == Extra::pairs;
  static constexpr int kMinimums = kTileOutputs * 4 * kParts, kIntegers = kMinimums + (kHasMinimum ? kTileOutputs * 4 : 0);
  static constexpr int kLevels = kIntegers + (kHasIntegers ? kTileOutputs * 4 : 0), kBytes = kLevels + kTileOutputs * kQ8Group;
};

// kLanes outputs of group j. A function of its own: GCC 12, with the loop over lanes around this, makes induction variables of all the addresses and, for some
// formats, then takes the stores for dead.
template <WeightFormat kFormat, int j>
__attribute__((noinline)) void expandLanes(const uint8_t* block, uint8_t* out, int lane) {
  using Traits = FieldTraits<kFormat>;
  using Form = Expanded<Traits::kParts, Traits::kExtra>;
  const FieldGroup<kFormat, j> group{block};
  for (int part = 0; part < Traits::kParts; part++) store(reinterpret_cast<float*>(out) + part * kTileOutputs + lane, group.scale(part, lane));
  if (Form::kHasMinimum) store(reinterpret_cast<float*>(out + Form::kMinimums) + lane, group.minimum(lane));
  if (Form::kHasIntegers) storeBytes(out + Form::kIntegers + lane * 4, group.integers(lane));
  MILLRACE_UNROLL
  for (int step = 0; step < 8; step++) storeBytes(out + Form::kLevels + step * kStepBytes + lane * 4, group.levels(step, lane));
}

template <WeightFormat kFormat, int j = 0>
void expandBlock(const uint8_t* block, uint8_t* out) {
  using Traits = FieldTraits<kFormat>;
  for (int lane = 0; lane < kTileOutputs; lane += kLanes) expandLanes<kFormat, j>(block, out, lane);
  if constexpr (j + 1 < Traits::kGroups) expandBlock<kFormat, j + 1>(block, out + Expanded<Traits::kParts, Traits::kExtra>::kBytes);
}

template <int kParts, Extra kExtra, bool kWide>
struct ExpandedTile {
  using Form = Expanded<kParts, kExtra>;
  const TileJob& job;
  int column, offset;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    Vec totals[MR][kTileVectors];
    startRows<MR, kTileVectors>(job, row, column, totals);
    Fetch fetch(job, block, column);
    fetchNextRows<MR>(job, row, block);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* group = job.weights;
    for (int g = 0; g < job.kCount / kQ8Group; g++, group += Form::kBytes, x += kQ8Group) {
      for (int part = 0; part < kParts; part++) addPart<MR>(group, part, firstGroup + g, x + part * 16, fetch, totals);
    }
    finishTile<MR, kTileVectors>(job, row, column, totals);
  }

  template <int MR>
  MILLRACE_INLINE void addPart(const uint8_t* group, int part, int64_t index, const uint8_t* x, Fetch& fetch, Vec (&totals)[MR][kTileVectors]) {
    constexpr int NR = kTileVectors, steps = 8 / kParts;
    const GroupEnd<kExtra, kParts> end{job.x, index, part};
    Sum sums[MR][NR];
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const VecI integers = loadIntegers(group, j);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) sums[m][j] = end.start(m, offset, integers);
    }
    const uint8_t* w = group + Form::kLevels + part * steps * kStepBytes + column * 4;
    if (fetch.lines > 0) {
      for (int step = 0; step < steps; step++) fetch.step();
    }
    addSteps<MR, steps>(sums, w, x);
    const float* scales = reinterpret_cast<const float*>(group) + part * kTileOutputs + column;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const Vec scale = load(scales + j * kLanes);
      const Vec minimum = Form::kHasMinimum ? load(reinterpret_cast<const float*>(group + Form::kMinimums) + column + j * kLanes) : zero();
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) end.add(m, totals[m][j], sums[m][j], scale, minimum, kExtra == Extra::pairs ? loadIntegers(group, j) : set1Int(0));
    }
  }

  template <int MR, int kSteps>
  MILLRACE_INLINE void addSteps(Sum (&sums)[MR][kTileVectors], const uint8_t* w, const uint8_t* x) {
#if defined(MILLRACE_VNNI)
    dotSteps<MR, kSteps>(sums, w, x, job.x.stride);
#else
    for (int step = 0; step < kSteps; step++, w += kStepBytes, x += 4) {
      Bytes levels[kTileVectors];
      MILLRACE_UNROLL
      for (int j = 0; j < kTileVectors; j++) levels[j] = loadBytes(w + j * kLanes * 4);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < kTileVectors; j++) sums[m][j] = addProducts<kWide>(sums[m][j], levels[j], x + m * job.x.stride);
      }
    }
#endif
  }

  MILLRACE_INLINE VecI loadIntegers(const uint8_t* group, int j) const {
    return Form::kHasIntegers ? loadInt(group + Form::kIntegers + (column + j * kLanes) * 4) : set1Int(0);
  }
};

template <int kParts, Extra kExtra, bool kWide>
void runExpanded(const TileJob& job, int offset) {
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kInt8TileRows>(job.rowBegin, job.rowEnd, ExpandedTile<kParts, kExtra, kWide>{job, column, offset});
}

// Calls f(piece, packed bytes) for the pieces of a segment, rows [rowBegin, rowEnd) of it; sums lie beside the scratch between pieces.
template <WeightFormat kFormat, class F>
MILLRACE_INLINE void forPieces(const TileJob& segment, int rowBegin, int rowEnd, F&& f) {
  using Traits = FieldTraits<kFormat>;
  FieldScratch& own = fieldScratch();
  const int end = segment.kBegin + segment.kCount;
  float* sums = own.sums - int64_t{rowBegin} * kTileOutputs;
  const uint8_t* packed = segment.weights;
  TileJob job = segment;
  job.weights = own.weights;
  job.rowBegin = rowBegin;
  job.rowEnd = rowEnd;
  job.aheadLines = 0;
  for (int begin = segment.kBegin; begin < end; begin += kPieceSteps) {
    job.kBegin = begin;
    job.kCount = smaller(kPieceSteps, end - begin);
    job.from = begin == segment.kBegin ? segment.from : sums;
    job.to = begin + job.kCount < end ? sums : segment.to;
    const int64_t bytes = int64_t{job.kCount} / Traits::kElements * Traits::kBlockBytes;
    f(job, packed, bytes);
    packed += bytes;
  }
}

template <WeightFormat kFormat>
void runInt8(const TileJob& segment) {
  using Traits = FieldTraits<kFormat>;
  using Form = Expanded<Traits::kParts, Traits::kExtra>;
  static_assert(kPieceSteps / 32 * Form::kBytes <= int64_t{sizeof(FieldScratch::weights)}, "a piece fits");
  if (segment.rowEnd - segment.rowBegin == 1) {
    for (int column = 0; column < segment.numOutputs; column += kTileVectors * kLanes) DirectTile<kFormat>{segment, column}.template run<1>(segment.rowBegin, 0);
    return;
  }
  for (int row = segment.rowBegin; row < segment.rowEnd; row += kRowsAtOnce) {
    forPieces<kFormat>(segment, row, smaller<int>(segment.rowEnd, row + kRowsAtOnce), [](TileJob& job, const uint8_t* packed, int64_t bytes) {
      uint8_t* out = const_cast<uint8_t*>(job.weights);
      for (int k = 0; k < job.kCount; k += Traits::kElements, packed += Traits::kBlockBytes, out += Traits::kGroups * Form::kBytes) expandBlock<kFormat>(packed, out);
      job.ahead = packed;  // the next piece, while this one is multiplied
      job.aheadLines = static_cast<int32_t>(ceilDiv(bytes, 64 * (job.kCount / 4)));
      job.aheadBlocks = 1;
      runExpanded<Traits::kParts, Traits::kExtra, Traits::kWide>(job, Traits::kOffset);
    });
  }
}

// Groups from j of a block of a tile as [k][64] f32.
template <WeightFormat kFormat, int j = 0>
void expandToFloats(const uint8_t* block, float* out) {
  using Traits = FieldTraits<kFormat>;
  const FieldGroup<kFormat, j> group{block};
  for (int lane = 0; lane < kTileOutputs; lane += kLanes) {
    const VecI integers = group.integers(lane);
    const VecI zeroPoint = shiftRightSigned<16>(shiftLeft<16>(integers));
    const Vec minimum = group.minimum(lane);
    for (int step = 0; step < 8; step++) {
      const Bytes levels = group.levels(step, lane);
      const Vec scale = group.scale(step * Traits::kParts / 8, lane);
      Vec added = minimum;
      if (Traits::kExtra == Extra::pairs) added = mul(minimum, intToFloat(step < 4 ? zeroPoint : shiftRightSigned<16>(integers)));
      for (int i = 0; i < 4; i++) {
        const VecI level = subInt(levelAt<Traits::kWide>(levels, i), Traits::kExtra == Extra::zero ? zeroPoint : set1Int(Traits::kOffset));
        const Vec product = mul(intToFloat(level), scale);
        store(out + (j * 32 + step * 4 + i) * kTileOutputs + lane, Traits::kExtra == Extra::minimum || Traits::kExtra == Extra::pairs ? add(product, added) : product);
      }
    }
  }
  if constexpr (j + 1 < Traits::kGroups) expandToFloats<kFormat, j + 1>(block, out);
}

template <WeightFormat kFormat>
void runFloats(const TileJob& segment) {
  using Traits = FieldTraits<kFormat>;
  for (int row = segment.rowBegin; row < segment.rowEnd; row += kRowsAtOnce) {
    forPieces<kFormat>(segment, row, smaller<int>(segment.rowEnd, row + kRowsAtOnce), [](TileJob& job, const uint8_t* packed, int64_t) {
      float* out = reinterpret_cast<float*>(const_cast<uint8_t*>(job.weights));
      for (int k = 0; k < job.kCount; k += Traits::kElements, packed += Traits::kBlockBytes) expandToFloats<kFormat>(packed, out + int64_t{k} * kTileOutputs);
      floatKernel(WeightFormat::f32)(job);
    });
  }
}

template <WeightFormat kFormat>
TileKernel pickFields(Activation activation) {
  return activation == Activation::int8Group32 || activation == Activation::int8Token ? runInt8<kFormat> : runFloats<kFormat>;
}

}  // namespace
}  // namespace millrace::cpu::MILLRACE_ISA
