// linear with f32 activations: y[t, n] = sum_k x[t, k] * f32(weight[n, k]).
//
// Weights of any format, in the layout of linear.h, are widened to f32 in registers; every step of K is one fused multiply-add per lane. Rows come in
// blocks of up to kMaxTileRows, so a widened vector is used that often. Rounded activations (bf16, int8) meet float weights here
// too, as f32 values. Work split: linear.cc.
// Measured (as in linear_bf16.cc): AVX-512, 32 rows and more: f32 84-87 %, bf16 86-91 %, q8_0 63-73 % of the FMA peak (262 GFLOP/s); 8 rows of f32 and all
// formats but q8_0 at 1 row: DRAM. AVX2: bf16 75-82 %, f16 70-74 % of its peak (131). Portable (SSE2): a third of what AVX2 can.
#include "linear.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

struct F32Weights {
  static constexpr int kSteps = 1;
  template <int NR>
  static MILLRACE_INLINE void widen(const uint8_t* w, int k, int column, Vec (&out)[kSteps][NR]) {
    const float* p = reinterpret_cast<const float*>(w) + int64_t{k} * kTileOutputs + column;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) out[0][j] = load(p + j * kLanes);
  }
};

struct F16Weights {
  static constexpr int kSteps = 1;
  template <int NR>
  static MILLRACE_INLINE void widen(const uint8_t* w, int k, int column, Vec (&out)[kSteps][NR]) {
    const uint16_t* p = reinterpret_cast<const uint16_t*>(w) + int64_t{k} * kTileOutputs + column;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) out[0][j] = loadF16(p + j * kLanes);
  }
};

// A pair of K is one 32-bit lane: the even step is its low half, moved up; the odd step its high half.
struct Bf16Weights {
  static constexpr int kSteps = 2;
  template <int NR>
  static MILLRACE_INLINE void widen(const uint8_t* w, int k, int column, Vec (&out)[kSteps][NR]) {
    const uint8_t* p = w + (int64_t{k} * kTileOutputs + column * 2) * 2;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const VecI pair = loadInt(p + j * kLanes * 4);
      out[0][j] = asFloat(shiftLeft<16>(pair));
      out[1][j] = asFloat(andInt(pair, set1Int(static_cast<int32_t>(0xffff0000u))));
    }
  }
};

// Four steps of K are one 32-bit lane. The value is f32(scale) * q, as the format defines it.
struct Q8Weights {
  static constexpr int kSteps = 4;
  template <int NR>
  static MILLRACE_INLINE void widen(const uint8_t* w, int k, int column, Vec (&out)[kSteps][NR]) {
    const uint8_t* group = w + int64_t{k / kQ8Group} * kQ8GroupBytes;
    const uint8_t* p = group + kTileOutputs * 2 + (k % kQ8Group) * kTileOutputs + column * 4;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      VecI q = loadInt(p + j * kLanes * 4);
      if (kQ8Offset != 0) q = xorInt(q, set1Int(static_cast<int32_t>(0x80808080u)));
      const Vec scale = loadF16(reinterpret_cast<const uint16_t*>(group) + column + j * kLanes);
      out[0][j] = mul(intToFloat(shiftRightSigned<24>(shiftLeft<24>(q))), scale);
      out[1][j] = mul(intToFloat(shiftRightSigned<24>(shiftLeft<16>(q))), scale);
      out[2][j] = mul(intToFloat(shiftRightSigned<24>(shiftLeft<8>(q))), scale);
      out[3][j] = mul(intToFloat(shiftRightSigned<24>(q)), scale);
    }
  }
};

// Steps k.. of a group are low nibbles, k + 16.. high ones.
struct Q4Weights {
  static constexpr int kSteps = 4;
  template <int NR>
  static MILLRACE_INLINE void widen(const uint8_t* w, int k, int column, Vec (&out)[kSteps][NR]) {
    const uint8_t* group = w + int64_t{k / kQ8Group} * kQ4GroupBytes;
    const uint8_t* p = group + kTileOutputs * 2 + (k % 16) * kTileOutputs + column * 4;
    const bool high = k % kQ8Group >= 16;
    MILLRACE_UNROLL
    for (int j = 0; j < NR; j++) {
      const VecI stored = loadInt(p + j * kLanes * 4);
      const VecI q = high ? shiftRightSigned<4>(stored) : stored;
      const VecI mask = set1Int(15), offset = set1Int(kQ4Offset);
      const Vec scale = loadF16(reinterpret_cast<const uint16_t*>(group) + column + j * kLanes);
      out[0][j] = mul(intToFloat(subInt(andInt(q, mask), offset)), scale);
      out[1][j] = mul(intToFloat(subInt(andInt(shiftRightSigned<8>(q), mask), offset)), scale);
      out[2][j] = mul(intToFloat(subInt(andInt(shiftRightSigned<16>(q), mask), offset)), scale);
      out[3][j] = mul(intToFloat(subInt(andInt(shiftRightSigned<24>(q), mask), offset)), scale);
    }
  }
};

template <class Weights, int NR>
struct FloatTile {
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    Vec sums[MR][NR];
    startRows<MR, NR>(job, row, column, sums);
    Fetch fetch(job, block, column);
    const uint8_t* x = job.x.data + row * job.x.stride + int64_t{job.kBegin} * 4;
    for (int k = 0; k < job.kCount; k += Weights::kSteps) {
      Vec w[Weights::kSteps][NR];
      Weights::template widen<NR>(job.weights, k, column, w);
      fetch.step();
      MILLRACE_UNROLL
      for (int s = 0; s < Weights::kSteps; s++) {
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) {
          const Vec broadcast = set1(readAs<float>(x + m * job.x.stride + (int64_t{k} + s) * 4));
          MILLRACE_UNROLL
          for (int j = 0; j < NR; j++) sums[m][j] = fma(w[s][j], broadcast, sums[m][j]);
        }
      }
    }
    finishTile<MR, NR>(job, row, column, sums);
  }
};

template <class Weights>
void runTile(const TileJob& job) {
  if (job.rowEnd - job.rowBegin == 1) {  // more outputs at once: fewer passes over the weights
    constexpr int kMost = kTileOutputs / kLanes <= 8 ? kTileOutputs / kLanes : 8;
    for (int column = 0; column < job.numOutputs; column += kMost * kLanes) FloatTile<Weights, kMost>{job, column}.template run<1>(job.rowBegin, 0);
    return;
  }
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kMaxTileRows>(job.rowBegin, job.rowEnd, FloatTile<Weights, kTileVectors>{job, column});
}

}  // namespace

TileKernel floatKernel(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32: return runTile<F32Weights>;
    case WeightFormat::f16: return runTile<F16Weights>;
    case WeightFormat::bf16: return runTile<Bf16Weights>;
    case WeightFormat::q8_0: return runTile<Q8Weights>;
    case WeightFormat::q4_0: return runTile<Q4Weights>;
    default: return nullptr;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
