// rope: rotary position embedding (Su et al. 2021, arXiv:2104.09864) on the first rotaryDim elements of each head, and ropeKvWrite: rope of q and k
// with the write of k and v into the cache.
//
//   half:        (x[i], x[i + r/2]) -> (x[i] c - x[i + r/2] s, x[i + r/2] c + x[i] s), r = rotaryDim
//   interleaved: the same on pairs (x[2i], x[2i + 1])
//   angle = f32(position * frequency[i]); c = f32(cos(angle)) * magnitude, s likewise
// Cosine and sine are computed in f64 once per token and shared by all its heads. Work is split over tokens; the rest passes through.
#include <cmath>

#include "kv_cache.h"
#include "rope.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

struct Turn {
  float cosine[kMaxHeadDim / 2], sine[kMaxHeadDim / 2];
};

void turnOf(const RopeArgs& args, int64_t token, Turn& turn) {
  const float position = static_cast<float>(args.positions[token]);
  for (int i = 0; i < args.rotaryDim / 2; i++) {
    const double angle = static_cast<double>(position * args.frequencies[i]);
    turn.cosine[i] = static_cast<float>(std::cos(angle)) * args.magnitude;
    turn.sine[i] = static_cast<float>(std::sin(angle)) * args.magnitude;
  }
}

// One head; x and y may be the same.
MILLRACE_INLINE void rotateHead(const RopeArgs& args, const Turn& turn, const float* x, float* y) {
  const int half = args.rotaryDim / 2;
  if (args.interleaved) {
    for (int i = 0; i < half; i++) {
      const float a = x[2 * i], b = x[2 * i + 1];
      y[2 * i] = a * turn.cosine[i] - b * turn.sine[i];
      y[2 * i + 1] = b * turn.cosine[i] + a * turn.sine[i];
    }
  } else {
    for (int i = 0; i < half; i++) {
      const float a = x[i], b = x[i + half];
      y[i] = a * turn.cosine[i] - b * turn.sine[i];
      y[i + half] = b * turn.cosine[i] + a * turn.sine[i];
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
