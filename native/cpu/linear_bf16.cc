// linear with bf16 weights and bf16 activations: y[t, n] = sum_k bf16(x[t, k]) * weight[n, k], products and sums in f32.
//
// AVX-512: vdpbf16ps takes two steps of K per lane and instruction (twice the f32 rate); x is stored as bf16, a pair broadcast to all lanes. The other
// sets have no such instruction: x is rounded to bf16, kept as f32, and linear_float.cc does the rest. Work split: linear.cc.
#include "linear.h"

namespace millrace::cpu::MILLRACE_ISA {

#if defined(MILLRACE_AVX512)
namespace {

constexpr int kPrefetchBytes = 2048;  // ahead of the stream, in the first block of rows: later blocks find the weights in L2

template <int NR, bool kPrefetch>
struct Bf16Tile {
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row) {
    Vec sums[MR][NR];
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) {
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) sums[m][j] = zero();
    }
    const uint8_t* x = job.x.data + row * job.x.stride + int64_t{job.kBegin} * 2;
    const uint8_t* w = job.weights + column * 4;
    for (int k = 0; k < job.kCount; k += 2, w += kTileOutputs * 4) {
      __m512bh pair[NR];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) pair[j] = bitCast<__m512bh>(_mm512_loadu_si512(w + j * 64));
      if (kPrefetch) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) prefetch(w + kPrefetchBytes + j * 64);
      }
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        const __m512bh broadcast = bitCast<__m512bh>(_mm512_set1_epi32(readAs<int32_t>(x + m * job.x.stride + int64_t{k} * 2)));
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = _mm512_dpbf16_ps(sums[m][j], pair[j], broadcast);
      }
    }
    MILLRACE_UNROLL
    for (int m = 0; m < MR; m++) finishRow<NR>(job, row + m, column, sums[m]);
  }
};

void runTile(const TileJob& job) {
  const int firstEnd = smaller(job.rowBegin + kMaxTileRows, job.rowEnd);
  forRowBlocks(job.rowBegin, firstEnd, Bf16Tile<kTileVectors, true>{job, 0});
  forRowBlocks(firstEnd, job.rowEnd, Bf16Tile<kTileVectors, false>{job, 0});
}

}  // namespace

TileKernel bf16Kernel() { return runTile; }
#else
TileKernel bf16Kernel() { return nullptr; }
#endif

}  // namespace millrace::cpu::MILLRACE_ISA
