// linear with weights whose fields are packed apart (q4_1, q5_0, q5_1, q4_k, q5_k, q6_k): y[t, n] = sum over groups g of 32 of
//   q4_1, q5_1, q4_k, q5_k   sx[t, g] * scale[n, g] * (sum_{k in g} qx * level) + sx[t, g] * (sum_{k in g} qx) * minimum[n, g]
//   q5_0                     the first term, with levels - 16
//   q6_k                     the first term for each half of the group, with levels - 32
// with sums in integers, exact, and two fused additions in f32 a group, in order.
//
// Layout: blocks of 256 or 32 steps of K of a tile of 64 outputs; each field of a block becomes [elements of the field][64 outputs], elements being what
// `fields` says, so that the 4 bytes of a lane are 4 steps of K. As many bytes as the file. Levels are put together in registers,
// unsigned. The 32 fifth bits of q5_0 and q5_1 change places: bit s of byte b for element 4 s + b.
//   AVX-512   vpdpbusd    AVX2  vpmaddubsw of 63 * 127 at most: never saturates    portable  f32, exact
// Float activations: some 256 steps of a tile are expanded to [k][64] f32 in scratch of the thread, then linear_float.cc's f32 kernel. Work split: linear.cc.
//
// Measured (as in linear_bf16.cc, in the time of other work): AVX-512, 1 row q4_k 93 % and q6_k 70-75 % of the memory bandwidth; 8 rows 33-40 % and 21-26 %,
// 32 rows and more 39-46 % and 28-34 % of the vpdpbusd peak: a scale a group, or two, and its unpacking for three rows at a time. AVX2 q4_k 40-49 % of twice
// its f32 peak.
#include "block_formats.h"
#include "linear_int8.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kPieceSteps = 256, kFewRows = 64;

// Where a field of a stored block lies, in elements of `unit` bytes, and its first byte in the tile.
struct Field {
  int source, count, unit, tile;
};
constexpr Field kQ41Fields[] = {{0, 1, 2, 0}, {2, 1, 2, 128}, {4, 4, 4, 256}};
constexpr Field kQ50Fields[] = {{0, 1, 2, 0}, {2, 1, 4, 128}, {6, 4, 4, 384}};
constexpr Field kQ51Fields[] = {{0, 1, 2, 0}, {2, 1, 2, 128}, {4, 1, 4, 256}, {8, 4, 4, 512}};
constexpr Field kQ4Fields[] = {{0, 1, 2, 0}, {2, 1, 2, 128}, {4, 12, 1, 256}, {16, 32, 4, 1024}};
constexpr Field kQ5Fields[] = {{0, 1, 2, 0}, {2, 1, 2, 128}, {4, 12, 1, 256}, {16, 8, 4, 1024}, {48, 32, 4, 3072}};
constexpr Field kQ6Fields[] = {{208, 1, 2, 0}, {192, 16, 1, 128}, {0, 32, 4, 1152}, {128, 16, 4, 9344}};

template <class F>
void forFields(WeightFormat format, F&& f) {
  if (format == WeightFormat::q4_1) for (const Field& field : kQ41Fields) f(field);
  if (format == WeightFormat::q5_0) for (const Field& field : kQ50Fields) f(field);
  if (format == WeightFormat::q5_1) for (const Field& field : kQ51Fields) f(field);
  if (format == WeightFormat::q4_k) for (const Field& field : kQ4Fields) f(field);
  if (format == WeightFormat::q5_k) for (const Field& field : kQ5Fields) f(field);
  if (format == WeightFormat::q6_k) for (const Field& field : kQ6Fields) f(field);
}

// Fifth bits from the order of the file (bit i for element i) to that of the tile, or back.
uint32_t turnFifths(uint32_t bits, bool toTile) {
  uint32_t turned = 0;
  for (int i = 0; i < 32; i++) {
    const int there = i % 4 * 8 + i / 4, from = toTile ? i : there, to = toTile ? there : i;
    turned |= (bits >> from & 1u) << to;
  }
  return turned;
}
// Whether a field is those 32 bits.
bool isFifths(WeightFormat format, const Field& f) { return blockSize(format).elements == 32 && f.unit == 4 && f.count == 1; }

#if defined(MILLRACE_AVX512)
using Bytes = __m512i;
MILLRACE_INLINE Bytes loadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
template <int kMask, int kShift> MILLRACE_INLINE Bytes bits(Bytes v) { return _mm512_and_si512(_mm512_srli_epi16(v, kShift), _mm512_set1_epi8(kMask)); }
template <int kMask> MILLRACE_INLINE Bytes bitsAt(Bytes v, int shift) { return _mm512_and_si512(_mm512_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm512_set1_epi8(kMask)); }
template <int kShift> MILLRACE_INLINE Bytes onTop(Bytes low, Bytes high) { return _mm512_or_si512(low, _mm512_slli_epi16(high, kShift)); }
MILLRACE_INLINE Sum addProducts(Sum sum, Bytes w, const uint8_t* x) { return dot4(sum, w, x); }
MILLRACE_INLINE VecI asLanes(Bytes v) { return v; }
// 16 bytes as floats.
MILLRACE_INLINE VecI widenBytes(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE VecI widenSigned(const uint8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
#elif defined(MILLRACE_AVX2)
using Bytes = __m256i;
MILLRACE_INLINE Bytes loadBytes(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
template <int kMask, int kShift> MILLRACE_INLINE Bytes bits(Bytes v) { return _mm256_and_si256(_mm256_srli_epi16(v, kShift), _mm256_set1_epi8(kMask)); }
template <int kMask> MILLRACE_INLINE Bytes bitsAt(Bytes v, int shift) { return _mm256_and_si256(_mm256_srl_epi16(v, _mm_cvtsi32_si128(shift)), _mm256_set1_epi8(kMask)); }
template <int kShift> MILLRACE_INLINE Bytes onTop(Bytes low, Bytes high) { return _mm256_or_si256(low, _mm256_slli_epi16(high, kShift)); }
MILLRACE_INLINE Sum addProducts(Sum sum, Bytes w, const uint8_t* x) {
  const __m256i pairs = _mm256_maddubs_epi16(w, _mm256_set1_epi32(readAs<int32_t>(x)));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
MILLRACE_INLINE VecI asLanes(Bytes v) { return v; }
MILLRACE_INLINE VecI widenBytes(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
MILLRACE_INLINE VecI widenSigned(const uint8_t* p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
#else
using Bytes = VecI;
MILLRACE_INLINE Bytes loadBytes(const uint8_t* p) { return loadInt(p); }
template <int kMask, int kShift> MILLRACE_INLINE Bytes bits(Bytes v) { return (v >> kShift) & (kMask * 0x01010101); }
template <int kMask> MILLRACE_INLINE Bytes bitsAt(Bytes v, int shift) { return (v >> shift) & (kMask * 0x01010101); }
template <int kShift> MILLRACE_INLINE Bytes onTop(Bytes low, Bytes high) { return low | (high << kShift); }
MILLRACE_INLINE Sum addProducts(Sum sum, Bytes w, const uint8_t* x) {
  const int8_t* q = reinterpret_cast<const int8_t*>(x);
  const VecI mask = set1Int(63);
  sum = fma(intToFloat(andInt(w, mask)), set1(static_cast<float>(q[0])), sum);
  sum = fma(intToFloat(andInt(shiftRightSigned<8>(w), mask)), set1(static_cast<float>(q[1])), sum);
  sum = fma(intToFloat(andInt(shiftRightSigned<16>(w), mask)), set1(static_cast<float>(q[2])), sum);
  return fma(intToFloat(andInt(shiftRightSigned<24>(w), mask)), set1(static_cast<float>(q[3])), sum);
}
MILLRACE_INLINE VecI asLanes(Bytes v) { return v; }
MILLRACE_INLINE VecI widenBytes(const uint8_t* p) { return VecI{p[0], p[1], p[2], p[3]}; }
MILLRACE_INLINE VecI widenSigned(const uint8_t* p) {
  const int8_t* q = reinterpret_cast<const int8_t*>(p);
  return VecI{q[0], q[1], q[2], q[3]};
}
#endif

MILLRACE_INLINE VecI orInt(VecI a, VecI b) { return xorInt(a, b); }  // of bits that lie apart

// Group j, a constant, of a block of a tile: levels of steps, scales and minimums of the outputs from `lane` on.
template <WeightFormat kFormat, int j>
struct FieldGroup {
  static constexpr bool kSmall = kFormat == WeightFormat::q4_1 || kFormat == WeightFormat::q5_0 || kFormat == WeightFormat::q5_1;
  static constexpr int kGroups = kSmall ? 1 : 8;
  static constexpr bool kMinimums = BlockTraits<kFormat>::kMinimums;
  static constexpr int kParts = BlockTraits<kFormat>::kHalves ? 2 : 1;                                           // scales of a group
  static constexpr int kOffset = kFormat == WeightFormat::q6_k ? 32 : kFormat == WeightFormat::q5_0 ? 16 : 0;  // of the levels
  static constexpr int kBlockBytes = kTileOutputs * (kFormat == WeightFormat::q4_1   ? 20
                                                     : kFormat == WeightFormat::q5_0 ? 22
                                                     : kFormat == WeightFormat::q5_1 ? 24
                                                     : kFormat == WeightFormat::q4_k ? 144
                                                     : kFormat == WeightFormat::q5_k ? 176
                                                                                     : 210);
  const uint8_t* block;

  MILLRACE_INLINE Bytes levels(int step, int lane) const {
    const int at = lane * 4;
    if (kSmall) {
      constexpr int fifths = kFormat == WeightFormat::q5_0 ? 128 : 256;
      constexpr int nibbles = kFormat == WeightFormat::q4_1 ? 256 : fifths + 256;
      const Bytes stored = loadBytes(block + nibbles + step % 4 * kStepBytes + at), low = step < 4 ? bits<15, 0>(stored) : bits<15, 4>(stored);
      if (kFormat == WeightFormat::q4_1) return low;
      return onTop<4>(low, bitsAt<1>(loadBytes(block + fifths + at), step));
    }
    if (kFormat == WeightFormat::q6_k) {
      constexpr int half = j / 4, quarter = j % 4;
      const Bytes low = bits<15, quarter / 2 * 4>(loadBytes(block + 1152 + (half * 16 + quarter % 2 * 8 + step) * kStepBytes + at));
      return onTop<4>(low, bits<3, quarter * 2>(loadBytes(block + 9344 + (half * 8 + step) * kStepBytes + at)));
    }
    const int nibbles = kFormat == WeightFormat::q4_k ? 1024 : 3072;
    const Bytes low = bits<15, j % 2 * 4>(loadBytes(block + nibbles + (j / 2 * 8 + step) * kStepBytes + at));
    if (kFormat == WeightFormat::q4_k) return low;
    return onTop<4>(low, bits<1, j>(loadBytes(block + 1024 + step * kStepBytes + at)));
  }
  MILLRACE_INLINE Vec half(int offset, int lane) const { return loadF16(reinterpret_cast<const uint16_t*>(block + offset) + lane); }
  MILLRACE_INLINE Vec scale(int part, int lane) const {
    if (kSmall) return half(0, lane);
    if (kFormat == WeightFormat::q6_k) return mul(half(0, lane), intToFloat(widenSigned(block + 128 + (2 * j + part) * kTileOutputs + lane)));
    const uint8_t* s = block + 256 + lane;
    const VecI six = j < 4 ? andInt(widenBytes(s + j * kTileOutputs), set1Int(63))
                           : orInt(andInt(widenBytes(s + (j + 4) * kTileOutputs), set1Int(15)),
                                   shiftLeft<4>(shiftRightSigned<6>(widenBytes(s + (j - 4) * kTileOutputs))));
    return mul(half(0, lane), intToFloat(six));
  }
  // Of a K-quant: minus dmin * minimum.
  MILLRACE_INLINE Vec minimum(int lane) const {
    if (kSmall) return half(128, lane);
    const uint8_t* s = block + 256 + lane;
    const VecI six = j < 4 ? andInt(widenBytes(s + (j + 4) * kTileOutputs), set1Int(63))
                           : orInt(shiftRightSigned<4>(widenBytes(s + (j + 4) * kTileOutputs)),
                                   shiftLeft<4>(shiftRightSigned<6>(widenBytes(s + j * kTileOutputs))));
    return mul(sub(zero(), half(128, lane)), intToFloat(six));
  }
  // Whether `levels` reads bytes that no earlier group has read; of a small block, in its first four steps.
  static constexpr bool kIsFresh = kFormat == WeightFormat::q6_k ? j % 4 < 3 : j % 2 == 0;
  // Steps' worth of bytes of a block beyond those: what is fetched ahead must keep pace with what is read.
  static constexpr int kOtherSteps = (kBlockBytes - (kSmall ? 4 : kFormat == WeightFormat::q6_k ? 48 : 32) * kStepBytes + kStepBytes - 1) / kStepBytes;
};

template <WeightFormat kFormat, bool kTokenScale>
struct FieldTile {
  using AnyGroup = FieldGroup<kFormat, 0>;
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec totals[MR][NR];
    startRows<MR, NR>(job, row, column, totals);
    Fetch fetch(job, block, column);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* weights = job.weights;
    for (int g = 0; g < job.kCount / kQ8Group; g += AnyGroup::kGroups, x += AnyGroup::kGroups * kQ8Group, weights += AnyGroup::kBlockBytes) {
      for (int i = 0; i < AnyGroup::kOtherSteps; i++) fetch.step();
      addGroups<MR, 0>(weights, firstGroup + g, x, fetch, totals);
    }
    if (job.to != nullptr) return putRows<MR, NR>(job, row, column, totals);
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      if (kTokenScale) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) totals[m][j] = mul(totals[m][j], set1(job.x.scales[row + m]));
      }
      finishRow<NR>(job, row + m, column, totals[m]);
    }
  }

  // Groups from j of a block: unrolled, so that shifts and places are constants.
  template <int MR, int j>
  MILLRACE_INLINE void addGroups(const uint8_t* block, int64_t index, const uint8_t* x, Fetch& fetch, Vec (&totals)[MR][kTileVectors]) {
    for (int part = 0; part < AnyGroup::kParts; part++) addPart<MR>(FieldGroup<kFormat, j>{block}, part, index + j, x + j * 32 + part * 16, fetch, totals);
    if constexpr (j + 1 < AnyGroup::kGroups) addGroups<MR, j + 1>(block, index, x, fetch, totals);
  }

  template <int MR, class Group>
  MILLRACE_INLINE void addPart(const Group& group, int part, int64_t index, const uint8_t* x, Fetch& fetch, Vec (&totals)[MR][kTileVectors]) {
    constexpr int NR = kTileVectors, steps = 8 / Group::kParts;
    Sum sums[MR][NR];
    int32_t sumOfX[MR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      const int64_t at = index + m * job.x.groups;
      sumOfX[m] = Group::kParts == 2 ? job.x.halfSums[at * 2 + part] : job.x.corrections[at];  // offset -1: the sum itself
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = startSum(-Group::kOffset * sumOfX[m]);
    }
    for (int step = 0; step < steps; step++) {
      if (Group::kIsFresh && (!Group::kSmall || step < 4)) fetch.step();
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        const Bytes levels = group.levels(part * steps + step, column + j * kLanes);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) sums[m][j] = addProducts(sums[m][j], levels, x + m * job.x.stride + step * 4);
      }
    }
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const Vec scale = group.scale(part, column + j * kLanes);
      Vec minimum = zero();
      if (Group::kMinimums) minimum = group.minimum(column + j * kLanes);
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        const float scaleOfX = kTokenScale ? 1.0f : job.x.scales[index + m * job.x.groups];
        totals[m][j] = fma(sumToFloat(sums[m][j]), kTokenScale ? scale : mul(scale, set1(scaleOfX)), totals[m][j]);
        if (Group::kMinimums) totals[m][j] = fma(minimum, set1(scaleOfX * static_cast<float>(sumOfX[m])), totals[m][j]);
      }
    }
  }
};

template <WeightFormat kFormat, bool kTokenScale>
void runInt8(const TileJob& job) {
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kInt8TileRows>(job.rowBegin, job.rowEnd, FieldTile<kFormat, kTokenScale>{job, column});
}

// Groups from j of a block of a tile as [k][64] f32.
template <WeightFormat kFormat, int j = 0>
void unpackBlock(const uint8_t* block, float* out) {
  using Group = FieldGroup<kFormat, j>;
  const Group group{block};
  for (int lane = 0; lane < kTileOutputs; lane += kLanes) {
    Vec minimum = zero();
    if (Group::kMinimums) minimum = group.minimum(lane);
    for (int step = 0; step < 8; step++) {
      VecI levels = asLanes(group.levels(step, lane));
      const Vec scale = group.scale(step * Group::kParts / 8, lane);
      for (int i = 0; i < 4; i++, levels = shiftRightSigned<8>(levels)) {
        const Vec product = mul(intToFloat(subInt(andInt(levels, set1Int(63)), set1Int(Group::kOffset))), scale);
        store(out + (j * 32 + step * 4 + i) * kTileOutputs + lane, Group::kMinimums ? add(product, minimum) : product);
      }
    }
  }
  if constexpr (j + 1 < Group::kGroups) unpackBlock<kFormat, j + 1>(block, out);
}

struct Scratch {
  alignas(64) float weights[kLinearSegment * kTileOutputs];
  alignas(64) float sums[kFewRows * kTileOutputs];
};

// A piece of a segment: all at once for many rows, kPieceSteps at a time when the sums of few rows fit beside it. Bits are the same.
template <WeightFormat kFormat>
void runFloats(const TileJob& given) {
  alignas(64) static thread_local Scratch own;
  const int rows = given.rowEnd - given.rowBegin, end = given.kBegin + given.kCount;
  const int pieceSteps = rows <= kFewRows ? kPieceSteps : given.kCount;
  float* sums = own.sums - int64_t{given.rowBegin} * kTileOutputs;
  TileJob job = given;
  job.weights = reinterpret_cast<const uint8_t*>(own.weights);
  job.aheadLines = 0;
  for (int begin = given.kBegin; begin < end; begin += pieceSteps) {
    job.kBegin = begin;
    job.kCount = smaller(pieceSteps, end - begin);
    constexpr int elements = FieldGroup<kFormat, 0>::kGroups * 32;
    const uint8_t* block = given.weights + int64_t{(begin - given.kBegin) / elements} * FieldGroup<kFormat, 0>::kBlockBytes;
    for (int k = 0; k < job.kCount; k += elements, block += FieldGroup<kFormat, 0>::kBlockBytes)
      unpackBlock<kFormat>(block, own.weights + int64_t{k} * kTileOutputs);
    job.from = begin == given.kBegin ? given.from : sums;
    job.to = begin + job.kCount < end ? sums : given.to;
    floatKernel(WeightFormat::f32)(job);
  }
}

template <WeightFormat kFormat>
TileKernel pick(Activation activation) {
  if (activation == Activation::int8Group32) return runInt8<kFormat, false>;
  return activation == Activation::int8Token ? runInt8<kFormat, true> : runFloats<kFormat>;
}

}  // namespace

TileKernel fieldsKernel(WeightFormat format, Activation activation) {
  switch (format) {
    case WeightFormat::q4_1: return pick<WeightFormat::q4_1>(activation);
    case WeightFormat::q5_0: return pick<WeightFormat::q5_0>(activation);
    case WeightFormat::q5_1: return pick<WeightFormat::q5_1>(activation);
    case WeightFormat::q4_k: return pick<WeightFormat::q4_k>(activation);
    case WeightFormat::q5_k: return pick<WeightFormat::q5_k>(activation);
    case WeightFormat::q6_k: return pick<WeightFormat::q6_k>(activation);
    default: return nullptr;
  }
}

void packFields(WeightFormat format, uint8_t* tile, int lane, int rows, int32_t k, const uint8_t* source) {
  const BlockSize size = blockSize(format);
  const int64_t blocks = k / size.elements;
  for (int64_t block = 0; block < blocks; block++) {
    uint8_t* to = tile + block * size.bytes * kTileOutputs;
    for (int r = 0; r < rows; r++) {
      const uint8_t* from = source + (r * blocks + block) * size.bytes;
      forFields(format, [&](const Field& f) {
        uint8_t* out = to + f.tile + (lane + r) * f.unit;
        const uint8_t* in = from + f.source;
        if (isFifths(format, f)) {
          const uint32_t turned = turnFifths(readAs<uint32_t>(in), true);
          std::memcpy(out, &turned, 4);
        } else if (f.unit == 4) {
          for (int i = 0; i < f.count; i++) std::memcpy(out + i * kTileOutputs * 4, in + i * 4, 4);
        } else {
          for (int i = 0; i < f.count; i++) std::memcpy(out + i * kTileOutputs * f.unit, in + i * f.unit, static_cast<size_t>(f.unit));
        }
      });
    }
  }
}

void unpackFields(WeightFormat format, const uint8_t* tile, int lane, int32_t k, float* out) {
  const BlockSize size = blockSize(format);
  uint8_t block[210];
  for (int64_t b = 0; b < k / size.elements; b++, out += size.elements) {
    const uint8_t* from = tile + b * size.bytes * kTileOutputs;
    forFields(format, [&](const Field& f) {
      for (int i = 0; i < f.count; i++)
        std::memcpy(block + f.source + i * f.unit, from + f.tile + (i * kTileOutputs + lane) * f.unit, static_cast<size_t>(f.unit));
      if (!isFifths(format, f)) return;
      const uint32_t turned = turnFifths(readAs<uint32_t>(block + f.source), false);
      std::memcpy(block + f.source, &turned, 4);
    });
    unpackBlockRow(format, block, size.elements, out);
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
