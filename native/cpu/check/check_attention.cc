// attention and the KV cache against scalar f64, and bit for bit across chunkings, batches, threads and draft slots.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "../thread_pool.h"
#include "check.h"

namespace millrace::cpu::check {
namespace {

struct Case {
  KvDtype dtype;
  int blockSize, numKvHeads, groupSize, headDim, window;
  float softCap;
  bool sinks;
  std::vector<int> lengths;  // of the sequences

  std::string name(const KernelTable& table) const {
    return std::string(table.isa) + " dtype " + std::to_string(int(dtype)) + " block " + std::to_string(blockSize) + " kv heads " + std::to_string(numKvHeads) +
           " group " + std::to_string(groupSize) + " head " + std::to_string(headDim) + " window " + std::to_string(window);
  }
};

// E4M3 nearest to a magnitude of 448 at most.
float nearestE4m3(float x) {
  const float magnitude = std::fabs(x);
  int exponent;
  std::frexp(magnitude, &exponent);
  const float step = magnitude < 0x1p-6f ? 0x1p-9f : std::ldexp(1.0f, exponent - 4);
  return std::copysign(std::nearbyint(magnitude / step) * step, x);
}

// A head of K or V as the cache keeps it, all in f32: src/backends/reference/kv-rounding.ts, written apart from the kernels' own.
void storeHead(float* x, int n, KvDtype dtype) {
  float low = 0, high = 0;
  for (int i = 0; i < n; i++) low = std::fmax(low, -x[i]), high = std::fmax(high, x[i]);
  const float largest = std::fmax(low, high);
  const float int8Scale = bf16Value(bf16Bits(largest / 127.0f)), int4Scale = bf16Value(bf16Bits(high / 15.0f + low / 15.0f));
  int exponent = 0;
  const float fraction = std::frexp(largest, &exponent);  // in [0.5, 1): 448 is 0.875 * 2^9
  const float fp8Scale = std::ldexp(1.0f, exponent - 9 + (fraction > 0.875f ? 1 : 0));
  const float zero = int4Scale == 0 ? 0 : std::nearbyint(std::fmin(15.0f, low / int4Scale));
  for (int i = 0; i < n; i++) {
    if (dtype == KvDtype::f16) x[i] = f16Value(f16Bits(x[i]));
    if (dtype == KvDtype::bf16) x[i] = bf16Value(bf16Bits(x[i]));
    if (dtype == KvDtype::int8) x[i] = int8Scale == 0 ? 0 : int8Scale * std::fmax(-127.0f, std::fmin(127.0f, std::nearbyint(x[i] / int8Scale)));
    if (dtype == KvDtype::fp8) x[i] = fp8Scale * nearestE4m3(x[i] / fp8Scale);
    if (dtype == KvDtype::int4) x[i] = int4Scale == 0 ? 0 : int4Scale * (std::fmax(0.0f, std::fmin(15.0f, std::nearbyint(x[i] / int4Scale) + zero)) - zero);
  }
}

std::vector<float> storedHeads(std::vector<float> x, int headDim, KvDtype dtype) {
  for (size_t at = 0; at < x.size(); at += static_cast<size_t>(headDim)) storeHead(x.data() + at, headDim, dtype);
  return x;
}

struct Sequence {
  int length;
  std::vector<float> q, k, v, out;  // out: of the whole sequence as one chunk
  std::vector<int32_t> blocks;
};

class Bench {
 public:
  Bench(const KernelTable& table, const Case& c)
      : table_(table), c_(c), numHeads_(c.numKvHeads * c.groupSize), qWidth_(numHeads_ * c.headDim), kvWidth_(c.numKvHeads * c.headDim), random_(c.headDim * 131 + c.blockSize) {
    for (int length : c.lengths) maxBlocks_ += (length + c.blockSize - 1) / c.blockSize + 2;
    cache_ = {nullptr, c.dtype, c.blockSize, c.numKvHeads, c.headDim};
    blockBytes_ = table.kvBlockBytes({nullptr, c.dtype, c.blockSize, c.numKvHeads, c.headDim});
    memory_ = std::make_unique<Buffer>(blockBytes_ * maxBlocks_ * 2);
    cache_.data = memory_->data();
    for (int h = 0; h < numHeads_; h++) sinks_.push_back(random_.normal() * 2);
    for (int length : c.lengths) {
      Sequence s;
      s.length = length;
      for (auto [vec, width] : {std::pair{&s.q, qWidth_}, {&s.k, kvWidth_}, {&s.v, kvWidth_}, {&s.out, qWidth_}}) {
        vec->resize(static_cast<size_t>(length) * width);
        for (float& x : *vec) x = random_.normal() * 2;
      }
      for (int b = 0; b * c.blockSize < length; b++) s.blocks.push_back(nextBlock_ += 1);
      sequences_.push_back(std::move(s));
    }
  }

  // Runs tokens [begin[i], end[i]) of sequence i, all sequences in one batch.
  std::vector<std::vector<float>> run(const std::vector<int>& begin, const std::vector<int>& end, ThreadPool& pool, bool slideOut = false) {
    std::vector<float> q, k, v;
    std::vector<int32_t> rowStart = {0}, cacheIndex, visibleEnd, slots, blockTable;
    for (size_t i = 0; i < sequences_.size(); i++) {
      const Sequence& s = sequences_[i];
      for (int t = begin[i]; t < end[i]; t++) {
        q.insert(q.end(), s.q.begin() + t * qWidth_, s.q.begin() + (t + 1) * qWidth_);
        k.insert(k.end(), s.k.begin() + t * kvWidth_, s.k.begin() + (t + 1) * kvWidth_);
        v.insert(v.end(), s.v.begin() + t * kvWidth_, s.v.begin() + (t + 1) * kvWidth_);
        cacheIndex.push_back(t);
        visibleEnd.push_back(t + 1);
        slots.push_back(s.blocks[t / c_.blockSize] * c_.blockSize + t % c_.blockSize);
      }
      rowStart.push_back(static_cast<int32_t>(cacheIndex.size()));
      for (int b = 0; b < maxBlocks_; b++) {
        const bool gone = slideOut && c_.window > 0 && (b + 1) * c_.blockSize <= begin[i] + 1 - c_.window;
        blockTable.push_back(gone || b >= static_cast<int>(s.blocks.size()) ? -1 : s.blocks[b]);
      }
    }
    const int tokens = static_cast<int>(cacheIndex.size());
    table_.kvWrite({{k.data(), kvWidth_}, {v.data(), kvWidth_}, tokens, slots.data(), cache_}, pool);
    Buffer scratch(table_.attentionScratchBytes(tokens, numHeads_, c_.headDim, pool.numThreads()));
    std::vector<float> out(static_cast<size_t>(tokens) * qWidth_, 777.0f);
    Counters counters;
    AttentionArgs args{{q.data(), qWidth_}, {out.data(), qWidth_}, tokens, static_cast<int32_t>(sequences_.size()), numHeads_, 0.125f, c_.softCap, c_.window,
                       c_.sinks ? sinks_.data() : nullptr, nullptr, cache_, rowStart.data(), cacheIndex.data(), visibleEnd.data(), blockTable.data(), maxBlocks_,
                       nullptr, nullptr, scratch.data(), &counters};
    runKernel("attention", [&] { table_.attention(args, pool); });
    std::vector<std::vector<float>> result;
    for (size_t i = 0; i < sequences_.size(); i++) result.emplace_back(out.begin() + rowStart[i] * qWidth_, out.begin() + rowStart[i + 1] * qWidth_);
    return result;
  }

  void againstScalar() {
    double worst = 0;
    for (const Sequence& s : sequences_) {
      const std::vector<float> k = storedHeads(s.k, c_.headDim, c_.dtype), v = storedHeads(s.v, c_.headDim, c_.dtype);
      for (int t = 0; t < s.length; t += s.length > 40 ? 37 : 1) {
        for (int h = 0; h < numHeads_; h++) {
          const int kv = h / c_.groupSize;
          std::vector<double> scores, out(c_.headDim);
          const int begin = c_.window == 0 || t + 1 < c_.window ? 0 : t + 1 - c_.window;
          double largest = c_.sinks ? sinks_[h] : -1e30, sum = 0;
          for (int j = begin; j <= t; j++) {
            double dot = 0;
            for (int d = 0; d < c_.headDim; d++) dot += double{s.q[t * qWidth_ + h * c_.headDim + d]} * k[j * kvWidth_ + kv * c_.headDim + d];
            dot *= 0.125;
            if (c_.softCap != 0) dot = c_.softCap * std::tanh(dot / c_.softCap);
            scores.push_back(dot);
            largest = std::fmax(largest, dot);
          }
          if (c_.sinks) sum = std::exp(sinks_[h] - largest);
          for (int j = begin; j <= t; j++) {
            const double p = std::exp(scores[j - begin] - largest);
            sum += p;
            for (int d = 0; d < c_.headDim; d++) out[d] += p * v[j * kvWidth_ + kv * c_.headDim + d];
          }
          for (int d = 0; d < c_.headDim; d++) {
            const double error = std::fabs(out[d] / sum - s.out[t * qWidth_ + h * c_.headDim + d]);
            worst = error > worst || std::isnan(error) ? error : worst;
          }
        }
      }
    }
    expect(worst < 1e-4, "attention error", c_.name(table_) + ": " + std::to_string(worst * 1e6) + "e-6");
  }

  void check(ThreadPool& one, ThreadPool& two) {
    std::vector<int> zero(sequences_.size(), 0), all;
    for (const Sequence& s : sequences_) all.push_back(s.length);
    const auto whole = run(zero, all, one);
    for (size_t i = 0; i < sequences_.size(); i++) sequences_[i].out = whole[i];
    againstScalar();
    expect(run(zero, all, two) == whole, "attention threads", c_.name(table_));
    for (int chunk : {1, 7, 64, 300}) {
      std::vector<int> done = zero;
      bool same = true;
      for (int step = 0; step < 2000; step++) {
        std::vector<int> begin = done, end = done;
        bool any = false;
        for (size_t i = 0; i < sequences_.size(); i++) {
          // Chunks of 1 only for the last stretch: the rest in chunks of 19, to keep this short.
          const int size = chunk == 1 && sequences_[i].length - done[i] > 24 ? 19 : chunk;
          end[i] = std::min(sequences_[i].length, done[i] + size);
          any = any || end[i] > begin[i];
        }
        if (!any) break;
        const auto part = run(begin, end, step % 2 ? one : two, true);
        for (size_t i = 0; i < sequences_.size(); i++)
          same = same && std::memcmp(part[i].data(), sequences_[i].out.data() + begin[i] * qWidth_, part[i].size() * 4) == 0;
        done = end;
      }
      expect(same, "attention chunks", c_.name(table_) + " chunk " + std::to_string(chunk));
    }
    drafts(one);
    copies(one);
  }

 private:
  // The last tokens of sequence 0 as draft slots named one by one, after a shorter context: the same bits.
  void drafts(ThreadPool& pool) {
    Sequence& s = sequences_[0];
    const int own = std::min(5, s.length), context = s.length - own, t = s.length - 1;
    const int32_t strange = nextBlock_ + 1;
    std::vector<int32_t> slots, ancestorStart = {0, own}, rowStart = {0, 1}, cacheIndex = {t}, visibleEnd = {context}, table(maxBlocks_, -1);
    for (int i = 0; i < own; i++) slots.push_back(i % 2 ? (strange + i) * c_.blockSize + (i * 3) % c_.blockSize : (strange + i) * c_.blockSize);
    if ((strange + own) > maxBlocks_ * 2 - 1) return;
    table_.kvWrite({{s.k.data() + context * kvWidth_, kvWidth_}, {s.v.data() + context * kvWidth_, kvWidth_}, own, slots.data(), cache_}, pool);
    for (int b = 0; b * c_.blockSize < context; b++) table[b] = s.blocks[b];
    Buffer scratch(table_.attentionScratchBytes(1, numHeads_, c_.headDim, pool.numThreads()));
    std::vector<float> out(qWidth_);
    AttentionArgs args{{s.q.data() + t * qWidth_, qWidth_}, {out.data(), qWidth_}, 1, 1, numHeads_, 0.125f, c_.softCap, c_.window,
                       c_.sinks ? sinks_.data() : nullptr, nullptr, cache_, rowStart.data(), cacheIndex.data(), visibleEnd.data(), table.data(), maxBlocks_,
                       ancestorStart.data(), slots.data(), scratch.data(), nullptr};
    runKernel("attention", [&] { table_.attention(args, pool); });
    expect(std::memcmp(out.data(), s.out.data() + t * qWidth_, out.size() * 4) == 0, "attention drafts", c_.name(table_));
  }

  // A copied partial block serves as well as the original.
  void copies(ThreadPool& pool) {
    Sequence& s = sequences_[0];
    const int used = (s.length - 1) % c_.blockSize + 1;
    const int32_t copy = nextBlock_ + 8;
    if (copy > maxBlocks_ * 2 - 1) return;
    table_.kvCopyBlock(cache_, s.blocks.back(), copy, used);
    std::swap(s.blocks.back(), const_cast<int32_t&>(copy));
    std::vector<int> begin, end;
    for (const Sequence& other : sequences_) begin.push_back(other.length - 1), end.push_back(other.length);
    const auto part = run(begin, end, pool);
    expect(std::memcmp(part[0].data(), s.out.data() + (s.length - 1) * qWidth_, part[0].size() * 4) == 0, "attention copied block", c_.name(table_));
  }

  const KernelTable& table_;
  Case c_;
  int numHeads_, qWidth_, kvWidth_, maxBlocks_ = 8;
  int32_t nextBlock_ = 0;
  size_t blockBytes_ = 0;
  Random random_;
  KvLayer cache_;
  std::unique_ptr<Buffer> memory_;
  std::vector<float> sinks_;
  std::vector<Sequence> sequences_;
};

}  // namespace

void checkAttention(const KernelTable& table) {
  WorkerPool one(1), two(2);
  const Case cases[] = {
      {KvDtype::f32, 16, 1, 1, 8, 0, 0, false, {40, 3}},           {KvDtype::f16, 16, 2, 7, 64, 0, 0, false, {530, 40, 1}},
      {KvDtype::bf16, 32, 2, 4, 128, 0, 0, false, {300, 600}},     {KvDtype::f16, 8, 4, 1, 80, 0, 0, false, {270, 90}},
      {KvDtype::bf16, 64, 1, 8, 256, 100, 50, false, {530, 20}},   {KvDtype::f32, 16, 2, 2, 17, 33, 0, true, {550, 12}},
      {KvDtype::f16, 16, 1, 3, 64, 256, 30, true, {800}},          {KvDtype::bf16, 128, 1, 70, 32, 0, 0, false, {260, 5}},
      {KvDtype::f32, 4, 1, 1, 2, 0, 0, false, {30}},               {KvDtype::f16, 256, 1, 2, 1, 5, 0, true, {300}},
      {KvDtype::int8, 16, 2, 7, 64, 0, 0, false, {270, 30}},       {KvDtype::int8, 1, 1, 3, 21, 0, 0, true, {25, 3}},
      {KvDtype::fp8, 32, 2, 4, 128, 100, 0, false, {300, 5}},      {KvDtype::fp8, 4, 3, 1, 6, 0, 30, false, {40, 2}},
      {KvDtype::int4, 16, 2, 7, 64, 0, 0, false, {270, 30}},       {KvDtype::int4, 2, 3, 1, 9, 7, 0, true, {40, 1}},
  };
  for (const Case& c : cases)
    if (std::getenv("QUICK") == nullptr || c.lengths[0] <= 40) Bench(table, c).check(one, two);
}

void checkRope(const KernelTable& table) {
  WorkerPool two(2);
  for (const bool interleaved : {false, true}) {
    const int tokens = 37, heads = 3, headDim = 24, rotaryDim = 16, width = heads * headDim;
    Random random(5);
    std::vector<float> x(tokens * width), y(tokens * width, 777.0f), frequencies;
    std::vector<int32_t> positions, slots;
    for (float& v : x) v = random.normal();
    for (int i = 0; i < rotaryDim / 2; i++) frequencies.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / rotaryDim)));
    for (int t = 0; t < tokens; t++) positions.push_back(t * t * 700), slots.push_back(tokens - 1 - t);
    const RopeArgs args{{x.data(), width}, {y.data(), width}, tokens, width, headDim, rotaryDim, interleaved, 1.25f, frequencies.data(), positions.data()};
    runKernel("rope", [&] { table.rope(args, two); });
    double worst = 0;
    for (int t = 0; t < tokens; t++) {
      for (int h = 0; h < heads; h++) {
        const float *in = x.data() + t * width + h * headDim, *out = y.data() + t * width + h * headDim;
        for (int i = 0; i < rotaryDim / 2; i++) {
          const double angle = static_cast<float>(positions[t]) * frequencies[i], c = std::cos(angle) * 1.25, s = std::sin(angle) * 1.25;
          const int a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : i + rotaryDim / 2;
          worst = std::fmax(worst, std::fmax(std::fabs(in[a] * c - in[b] * s - out[a]), std::fabs(in[b] * c + in[a] * s - out[b])));
        }
        for (int i = rotaryDim; i < headDim; i++) expect(out[i] == in[i], "rope passes the rest", table.isa);
      }
    }
    expect(worst < 2e-6, "rope error", std::string(table.isa) + " " + std::to_string(worst * 1e6) + "e-6");

    // Fused equals rope, rope, kvWrite: compared through the bytes of the cache.
    const size_t bytes = table.kvBlockBytes({nullptr, KvDtype::bf16, 16, heads, headDim}) * 4;
    Buffer fused(bytes), plain(bytes);
    KvLayer cache{fused.data(), KvDtype::bf16, 16, heads, headDim};
    std::vector<float> q(y.size()), k(y.size());
    RopeArgs qArgs = args, kArgs = args;
    qArgs.y.data = q.data();
    kArgs.y.data = nullptr;
    runKernel("ropeKvWrite", [&] { table.ropeKvWrite(qArgs, kArgs, {{nullptr, 0}, {x.data(), width}, tokens, slots.data(), cache}, two); });
    cache.data = plain.data();
    runKernel("kvWrite", [&] { table.kvWrite({{y.data(), width}, {x.data(), width}, tokens, slots.data(), cache}, two); });
    expect(q == y && std::memcmp(fused.data(), plain.data(), bytes) == 0, "ropeKvWrite equals its parts", table.isa);
  }
}

}  // namespace millrace::cpu::check
