// linear with bf16 weights and bf16 activations: y[t, n] = sum_k bf16(x[t, k]) * weight[n, k], products and sums in f32.
//
// AVX-512: vdpbf16ps takes two steps of K per lane and instruction (twice the f32 rate); x is stored as bf16, a pair broadcast to all lanes. The other
// sets have no such instruction: x is rounded to bf16, kept as f32, and linear_float.cc does the rest. Work split: linear.cc.
//
// Measured: one thread of a Zen 5 server core (virtual machine, other work running; own processor time against peaks measured in the same run with
// check/run.sh bench), weights 4864 x 896 and 896 x 4864 out of DRAM: 128 rows and more 90-97 % of the vdpbf16ps peak (484 GFLOP/s), 32 rows 89-94 %; up
// to 8 rows take the time of reading the weights once (36 GB/s of 33-38 GB/s).
#include "linear.h"

namespace millrace::cpu::MILLRACE_ISA {

#if defined(MILLRACE_AVX512)
namespace {

struct Bf16Tile {
  const TileJob& job;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec sums[MR][NR];
    startRows<MR, NR>(job, row, 0, sums);
    Fetch fetch(job, block, 0);
    const uint8_t* x = job.x.data + row * job.x.stride + int64_t{job.kBegin} * 2;
    const uint8_t* w = job.weights;
    for (int k = 0; k < job.kCount; k += 2, w += kStepBytes) {
      __m512bh pair[NR];
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) pair[j] = bitCast<__m512bh>(_mm512_loadu_si512(w + j * 64));
      fetch.step();
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        const __m512bh broadcast = bitCast<__m512bh>(_mm512_set1_epi32(readAs<int32_t>(x + m * job.x.stride + int64_t{k} * 2)));
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = _mm512_dpbf16_ps(sums[m][j], pair[j], broadcast);
      }
    }
    finishTile<MR, NR>(job, row, 0, sums);
  }
};

void runTile(const TileJob& job) { forRowBlocks<kMaxTileRows>(job.rowBegin, job.rowEnd, Bf16Tile{job}); }

}  // namespace

TileKernel bf16Kernel() { return runTile; }
#else
TileKernel bf16Kernel() { return nullptr; }
#endif

}  // namespace millrace::cpu::MILLRACE_ISA
