// linear with q8_0 weights and int8 activations: y[t, n] = sum over groups g of 32 of sx[t, g] * sw[n, g] * (sum_{k in g} qx[t, k] * qw[n, k]).
//
// The sum of a group is exact in int32; the groups of a segment are then added in order in f32, as fma(f32(sum), sx * sw, total).
//   AVX-512   vpdpbusd: weights stored + 128 (unsigned) by signed x; sums start at -128 * (sum of the group of x)
//   AVX2      |w| by x with w's sign: pairs stay below 2 * 128 * 127 = 32512, so vpmaddubsw never saturates
//   portable  f32, in which these sums are exact
// int8-token has one scale per row: it joins after the sum of the segment. Work split: linear.cc. For each eight vpdpbusd a multiplication and a fused addition
// go to the same two ports, which puts the ceiling at 80 % of the int8 peak; conversions run beside them. A tile with everything in L1 reaches 75-76 %.
// Measured (one thread of a Zen 5 server core, virtual machine, its own processor time against the peak of the same run, 1,060 GOP/s, beside other work):
// AVX-512, 512 rows 64-70 % (with pieces of 256 steps but nothing fetched ahead: 60-68 % in the same minutes), 128 rows 64-69 % (58-63 %), 32 rows 55-60 %, 8 rows
// 31-37 % (26 GB/s of weights). Totals kept in memory to free registers for a 6 x 4 tile (50-55 %) and the whole loop over groups in assembly were no faster.
#include "linear_int8.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

template <bool kTokenScale>
struct Int8Tile {
  const TileJob& job;
  int column;

  template <int MR>
  MILLRACE_INLINE void run(int row, int block) {
    constexpr int NR = kTileVectors;
    Vec totals[MR][NR];
    startRows<MR, NR>(job, row, column, totals);
    Fetch fetch(job, block, column);
    fetchNextRows<MR>(job, row, block);
    const int64_t firstGroup = row * job.x.groups + job.kBegin / kQ8Group;
    const uint8_t* x = job.x.data + row * job.x.stride + job.kBegin;
    const uint8_t* group = job.weights;
    for (int g = 0; g < job.kCount / kQ8Group; g++, group += kQ8GroupBytes, x += kQ8Group) {
      Sum sums[MR][NR];
      MILLRACE_UNROLL
      for (int m = 0; m < MR; m++) {
        MILLRACE_UNROLL
        for (int j = 0; j < NR; j++) sums[m][j] = startSum(job.x.corrections[firstGroup + m * job.x.groups + g]);
      }
      if (fetch.lines > 0) {
        fetch.scales();
        for (int k = 0; k < kQ8Group; k += 4) fetch.step();
      }
      dotSteps<MR, 8>(sums, group + kTileOutputs * 2 + column * 4, x, job.x.stride);
      MILLRACE_UNROLL
      for (int j = 0; j < NR; j++) {
        const Vec weightScale = loadF16(reinterpret_cast<const uint16_t*>(group) + column + j * kLanes);
        MILLRACE_UNROLL
        for (int m = 0; m < MR; m++) {
          const Vec scale = kTokenScale ? weightScale : mul(weightScale, set1(job.x.scales[firstGroup + m * job.x.groups + g]));
          totals[m][j] = fma(sumToFloat(sums[m][j]), scale, totals[m][j]);
        }
      }
    }
    finishTile<MR, NR>(job, row, column, totals);
  }
};

template <bool kTokenScale>
void runTile(const TileJob& job) {
  for (int column = 0; column < job.numOutputs; column += kTileVectors * kLanes)
    forRowBlocks<kInt8TileRows>(job.rowBegin, job.rowEnd, Int8Tile<kTokenScale>{job, column});
}

}  // namespace

TileKernel int8Kernel(bool tokenScale) { return tokenScale ? runTile<true> : runTile<false>; }

}  // namespace millrace::cpu::MILLRACE_ISA
