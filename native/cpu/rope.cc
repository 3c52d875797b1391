// rope: rotary position embedding (Su et al. 2021, arXiv:2104.09864) on the first rotaryDim elements of each head, and ropeKvWrite: rope of q and k
// with the write of k and v into the cache.
//
//   half:        (x[i], x[i + r/2]) -> (x[i] c - x[i + r/2] s, x[i + r/2] c + x[i] s), r = rotaryDim
//   interleaved: the same on pairs (x[2i], x[2i + 1])
//   angle = f32(position * frequency[i]); c = cos(angle) * magnitude, s = sin(angle) * magnitude
// From the angle on everything is f64, rounded once at the end, so that K lands on the same side of a bf16 or f16 rounding as in the reference.
// Cosine and sine are computed once per token and shared by all its heads. Work is split over tokens; the rest of a head passes through.
#include "kv_cache.h"
#include "rope.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

struct Turn {
  double cosine[kMaxHeadDim / 2], sine[kMaxHeadDim / 2];
};

// Sine and cosine of x within about 2 ulp up to |x| of a million, 1e-9 beyond: x less a multiple n of pi/2, which is kept in three parts of which the
// first two times n are exact (Cody and Waite 1980); then Taylor series on [-pi/4, pi/4]. Without branches, for loops that become vectors.
MILLRACE_INLINE void sineCosine(double x, double* sine, double* cosine) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer, which is then in the low bits
  const double shifted = x * 0.63661977236758134 + kMagic, n = shifted - kMagic;
  const uint64_t quarter = bitCast<uint64_t>(shifted);
  double r = x - n * 1.5707963267341256;  // the first 33 bits of pi/2, the next 33, and the rest
  r -= n * 6.0771005063039659e-11;
  r -= n * 2.0222662487959506e-21;
  const double r2 = r * r;
  double s = -1.0 / 121645100408832000.0;  // -1/19!
  s = s * r2 + 1.0 / 355687428096000.0;
  s = s * r2 - 1.0 / 1307674368000.0;
  s = s * r2 + 1.0 / 6227020800.0;
  s = s * r2 - 1.0 / 39916800.0;
  s = s * r2 + 1.0 / 362880.0;
  s = s * r2 - 1.0 / 5040.0;
  s = s * r2 + 1.0 / 120.0;
  s = s * r2 - 1.0 / 6.0;
  s = r + r * (r2 * s);
  double c = 1.0 / 6402373705728000.0;  // 1/18!, subtracted below
  c = 1.0 / 20922789888000.0 - c * r2;
  c = c * r2 - 1.0 / 87178291200.0;
  c = c * r2 + 1.0 / 479001600.0;
  c = c * r2 - 1.0 / 3628800.0;
  c = c * r2 + 1.0 / 40320.0;
  c = c * r2 - 1.0 / 720.0;
  c = c * r2 + 1.0 / 24.0;
  c = 1.0 - (0.5 * r2 - r2 * (r2 * c));
  const double sideways = (quarter & 1) != 0 ? c : s, along = (quarter & 1) != 0 ? s : c;
  *sine = (quarter & 2) != 0 ? -sideways : sideways;
  *cosine = ((quarter + 1) & 2) != 0 ? -along : along;
}

void turnOf(const RopeArgs& args, int64_t token, Turn& turn) {
  const float position = static_cast<float>(args.positions[token]);
  for (int i = 0; i < args.rotaryDim / 2; i++) {
    double sine, cosine;
    sineCosine(static_cast<double>(position * args.frequencies[i]), &sine, &cosine);
    turn.cosine[i] = cosine * args.magnitude;
    turn.sine[i] = sine * args.magnitude;
  }
}

// One head; x and y may be the same.
MILLRACE_INLINE void rotateHead(const RopeArgs& args, const Turn& turn, const float* x, float* y) {
  const int half = args.rotaryDim / 2;
  if (args.interleaved) {
    for (int i = 0; i < half; i++) {
      const double a = x[2 * i], b = x[2 * i + 1];
      y[2 * i] = static_cast<float>(a * turn.cosine[i] - b * turn.sine[i]);
      y[2 * i + 1] = static_cast<float>(b * turn.cosine[i] + a * turn.sine[i]);
    }
  } else {
    for (int i = 0; i < half; i++) {
      const double a = x[i], b = x[i + half];
      y[i] = static_cast<float>(a * turn.cosine[i] - b * turn.sine[i]);
      y[i + half] = static_cast<float>(b * turn.cosine[i] + a * turn.sine[i]);
    }
  }
  if (x != y)
    for (int i = args.rotaryDim; i < args.headDim; i++) y[i] = x[i];
}

void rotateToken(const RopeArgs& args, const Turn& turn, int64_t token) {
  const float* x = args.x.data + token * args.x.stride;
  float* y = args.y.data + token * args.y.stride;
  for (int head = 0; head < args.width / args.headDim; head++) rotateHead(args, turn, x + head * args.headDim, y + head * args.headDim);
}

// Neighbouring tokens share cache lines of K: runs of them go to one thread.
template <class F>
void forTokens(int64_t tokens, ThreadPool& pool, F&& f) {
  constexpr int64_t kTokensPerTile = 16;
  if (tokens <= 2) {
    for (int64_t t = 0; t < tokens; t++) f(t);
    return;
  }
  const int64_t perTile = larger<int64_t>(1, smaller(kTokensPerTile, tokens / pool.numThreads()));
  pool.parallel(ceilDiv(tokens, perTile), [&](int64_t tile, int) {
    for (int64_t t = tile * perTile; t < smaller(tokens, (tile + 1) * perTile); t++) f(t);
  });
}

}  // namespace

void turnHeads(const RopeArgs& args, int64_t token, const float* x, float* y, int numHeads) {
  Turn turn;
  turnOf(args, token, turn);
  for (int head = 0; head < numHeads; head++) rotateHead(args, turn, x + int64_t{head} * args.headDim, y + int64_t{head} * args.headDim);
}

void rope(const RopeArgs& args, ThreadPool& pool) {
  forTokens(args.tokens, pool, [&](int64_t token) {
    Turn turn;
    turnOf(args, token, turn);
    rotateToken(args, turn, token);
  });
}

void ropeKvWrite(const RopeArgs& q, const RopeArgs& k, const KvWriteArgs& kv, ThreadPool& pool) {
  forTokens(q.tokens, pool, [&](int64_t token) {
    Turn turn;
    turnOf(q, token, turn);
    rotateToken(q, turn, token);
    const KvLayer& cache = kv.cache;
    for (int head = 0; head < cache.numKvHeads; head++) {
      float rotated[kMaxHeadDim];
      rotateHead(k, turn, k.x.data + token * k.x.stride + head * k.headDim, rotated);
      if (k.y.data != nullptr) std::memcpy(k.y.data + token * k.y.stride + head * k.headDim, rotated, static_cast<size_t>(k.headDim) * 4);
      if (kv.slotMapping[token] >= 0) storeHead(cache, kv.slotMapping[token], head, rotated, kv.v.data + token * kv.v.stride + head * cache.headDim);
    }
  });
}

}  // namespace millrace::cpu::MILLRACE_ISA
