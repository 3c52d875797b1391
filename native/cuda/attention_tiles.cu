// attention on tensor cores: bf16 caches, heads of 64 or 128 elements. After FlashAttention-2 (Dao 2023), with splits and row order of our own.
//
// A warp takes 16 query rows that share a KV head: the query heads of one token, or of several tokens of one row. Keys come in tiles of 64, aligned to cache
// index 0. Within a split of kAttentionSplit keys the softmax runs online over its tiles; splits are merged in order, as attention.cu does. A row is computed
// alike whatever else is in its tile: other rows never touch its sums, and keys that it does not see add zeros.
//
// q and the weights are f32: each is multiplied as the sum of three bf16 numbers, which hold it whole, so nothing is rounded but sums. Blocks of one warp
// serve steps of single tokens, blocks of four warps the others. A step of few tokens and long contexts gives each split a block.
// Shares of the limits: not measured yet.
#include "attention.h"
#include "launch.h"

namespace millrace::cuda {
namespace {

constexpr int kTileKeys = 64, kRowsPerWarp = 16, kMostWarps = 4;
constexpr int kParts = 3;  // bf16 numbers that an f32 is the sum of

// Rows of K and V in shared memory: 8 numbers more than a head, so that the rows of a tile start in different banks.
template <int D>
constexpr int kStride = D + 8;

template <int D, int Warps>
struct Shared {
  uint16_t k[kTileKeys * kStride<D>], v[kTileKeys * kStride<D>];
  uint4 q[Warps][kParts][D / 16][kWarp];  // tiles of rows by 16 elements, as multiplyTile takes them
};

// One of the two rows whose sums a lane holds.
struct QueryRow {
  int32_t token, head, own, first, end;
  bool isThere;
};

template <int D, int Warps>
struct Tile {
  const AttentionArgs& args;
  Shared<D, Warps>& shared;
  int32_t firstToken, numTokens, row, kvHead, group, firstKey, endKey;
  KeyRange range;  // of the last token: the block table is that of the row, ancestors come with tiles of one token
  int lane, warp;
  QueryRow rows[2];

  MILLRACE_GPU QueryRow queryRow(int index) const {
    QueryRow q{0, 0, 0, 0, 0, index / group < numTokens};
    if (!q.isThere) return q;
    q.token = firstToken + index / group;
    q.head = kvHead * group + index % group;
    q.own = args.cacheIndex[q.token];
    const KeyRange keys = keysOf(args, q.token);
    q.first = keys.first;
    q.end = keys.end;
    return q;
  }

  // q as three bf16 numbers, in the order in which lanes multiply it.
  MILLRACE_GPU void loadQueries() {
    for (int step = 0; step < D / 16; step++) {
      uint32_t words[kParts][4];
      for (int i = 0; i < 4; i++) {
        const QueryRow& q = rows[i % 2];
        const int d = step * 16 + lane % 4 * 2 + i / 2 * 8;
        const float* from = args.q.data + q.token * args.q.stride + int64_t{q.head} * D + d;
        float low = q.isThere ? from[0] : 0.0f, high = q.isThere ? from[1] : 0.0f;
        for (int part = 0; part < kParts; part++) {
          const uint32_t word = packBf16(low, high);
          words[part][i] = word;
          low -= bf16ToFloat(word & 0xffffu);
          high -= bf16ToFloat(word >> 16);
        }
      }
      for (int part = 0; part < kParts; part++) shared.q[warp][part][step][lane] = {words[part][0], words[part][1], words[part][2], words[part][3]};
    }
  }

  // K and V of keys [begin, begin + kTileKeys); zeros beyond the last that any row sees.
  MILLRACE_GPU void loadKeys(int32_t begin) {
    __syncthreads();  // the tile before is read no more
    constexpr int kVectors = D / 8;  // of 16 bytes, in a head
    const uint16_t* data = reinterpret_cast<const uint16_t*>(args.cache.data);
    const int64_t half = int64_t{args.cache.numKvHeads} * args.cache.blockSize * D;
    for (int i = static_cast<int>(threadIdx.x); i < kTileKeys * kVectors; i += Warps * kWarp) {
      const int32_t key = i / kVectors, at = i % kVectors * 8, index = begin + key;
      const bool inside = index >= firstKey && index < endKey;
      const int32_t slot = inside ? slotOf(args, row, range, index) : 0;
      const int64_t from = int64_t{slot / args.cache.blockSize} * 2 * half + (int64_t{kvHead} * args.cache.blockSize + slot % args.cache.blockSize) * D + at;
      copyAsync16(shared.k + key * kStride<D> + at, data + from, inside);
      copyAsync16(shared.v + key * kStride<D> + at, data + half + from, inside);
    }
    commitCopies();
    awaitCopies<0>();
    __syncthreads();
  }

  // Scores of the 16 rows and 64 keys: element i of tile n is row rows[i / 2], key begin + 8 n + 2 (lane % 4) + i % 2. -Infinity where it is not seen.
  MILLRACE_GPU void score(int32_t begin, float (&scores)[kTileKeys / 8][4]) const {
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) scores[n][i] = 0;
#pragma unroll 1
    for (int part = kParts - 1; part >= 0; part--)
#pragma unroll 2
      for (int step = 0; step < D / 16; step++) {
        const uint4 a = shared.q[warp][part][step][lane];
#pragma unroll
        for (int n = 0; n < kTileKeys / 8; n++) {
          const uint16_t* key = shared.k + (n * 8 + lane / 4) * kStride<D> + step * 16 + lane % 4 * 2;
          multiplyTile(scores[n], a.x, a.y, a.z, a.w, *reinterpret_cast<const uint32_t*>(key), *reinterpret_cast<const uint32_t*>(key + 8));
        }
      }
#pragma unroll
    for (int n = 0; n < kTileKeys / 8; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const QueryRow& q = rows[i / 2];
        const int32_t index = begin + n * 8 + lane % 4 * 2 + i % 2;
        float value = scores[n][i] * args.scale;
        if (args.softCap > 0.0f) value = args.softCap * tanhf(value / args.softCap);
        if (args.slopes != nullptr) value += args.slopes[q.head] * static_cast<float>(index - q.own);
        scores[n][i] = q.isThere && index >= q.first && index < q.end ? value : -INFINITY;
      }
  }

  // Turns scores into weights and brings maximum, weight and sums of the split up to date for them.
  MILLRACE_GPU void weigh(float (&scores)[kTileKeys / 8][4], HeadState (&states)[2], float (&sums)[D / 8][4]) const {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float maximum = states[half].maximum;
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; n++) maximum = largerOf(largerOf(maximum, scores[n][2 * half]), scores[n][2 * half + 1]);
      maximum = largerOf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 1));
      maximum = largerOf(maximum, __shfl_xor_sync(0xffffffffu, maximum, 2));
      float weight = 0;
#pragma unroll
      for (int n = 0; n < kTileKeys / 8; n++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          scores[n][i] = maximum == -INFINITY ? 0.0f : expf(scores[n][i] - maximum);
          weight += scores[n][i];
        }
      weight += __shfl_xor_sync(0xffffffffu, weight, 1);
      weight += __shfl_xor_sync(0xffffffffu, weight, 2);
      const float keep = states[half].maximum == maximum ? 1.0f : mergeFactor(states[half].maximum, maximum);
      states[half] = {maximum, states[half].weight * keep + weight};
#pragma unroll
      for (int n = 0; n < D / 8; n++) {
        sums[n][2 * half] *= keep;
        sums[n][2 * half + 1] *= keep;
      }
    }
  }

  MILLRACE_GPU void addValues(const float (&weights)[kTileKeys / 8][4], float (&sums)[D / 8][4]) const {
#pragma unroll
    for (int step = 0; step < kTileKeys / 16; step++) {
      float rest[8];
#pragma unroll
      for (int i = 0; i < 8; i++) rest[i] = weights[2 * step + i / 4][i % 4];
      uint32_t a[kParts][4];
#pragma unroll
      for (int part = 0; part < kParts; part++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const uint32_t word = packBf16(rest[2 * i], rest[2 * i + 1]);
          a[part][i] = word;
          rest[2 * i] -= bf16ToFloat(word & 0xffffu);
          rest[2 * i + 1] -= bf16ToFloat(word >> 16);
        }
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        uint32_t b[4];
        loadTransposed(b, shared.v + (step * 16 + lane % 16) * kStride<D> + n * 8 + lane / 16 * 8);
#pragma unroll
        for (int part = kParts - 1; part >= 0; part--) {
          multiplyTile(sums[n], a[part][0], a[part][1], a[part][2], a[part][3], b[0], b[1]);
          multiplyTile(sums[n + 1], a[part][0], a[part][1], a[part][2], a[part][3], b[2], b[3]);
        }
      }
    }
  }
};

// Block x: a tile of tokens; y: a KV head; z: a split, where they have blocks of their own.
template <int D, int Warps, bool Splits>
__global__ void __launch_bounds__(Warps* kWarp) tilesKernel(AttentionArgs args) {
  MILLRACE_DYNAMIC_SHARED(memory);
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int32_t firstToken = args.tiles[2 * blockIdx.x], numTokens = args.tiles[2 * blockIdx.x + 1];
  Tile<D, Warps> tile{args,
                      *reinterpret_cast<Shared<D, Warps>*>(memory),
                      firstToken,
                      numTokens,
                      args.rowOfToken[firstToken],
                      static_cast<int32_t>(blockIdx.y),
                      args.numHeads / args.cache.numKvHeads,
                      0x7fffffff,
                      0,
                      keysOf(args, firstToken + numTokens - 1),
                      lane,
                      warp,
                      {}};
  for (int32_t t = firstToken; t < firstToken + numTokens; t++) {
    const KeyRange keys = keysOf(args, t);
    tile.firstKey = keys.first < tile.firstKey ? keys.first : tile.firstKey;
    tile.endKey = keys.end > tile.endKey ? keys.end : tile.endKey;
  }
  if (Splits) {
    const int32_t begin = static_cast<int32_t>(blockIdx.z) * kSplit;
    tile.firstKey = tile.firstKey > begin ? tile.firstKey : begin;
    tile.endKey = tile.endKey < begin + kSplit ? tile.endKey : begin + kSplit;
    if (tile.firstKey >= tile.endKey) return;
  }
  for (int i = 0; i < 2; i++) tile.rows[i] = tile.queryRow(warp * kRowsPerWarp + lane / 4 + 8 * i);
  tile.loadQueries();
  float totals[D / 8][4] = {}, sums[D / 8][4] = {};
  HeadState merged[2] = {{-INFINITY, 0}, {-INFINITY, 0}}, states[2] = {{-INFINITY, 0}, {-INFINITY, 0}};
  for (int32_t begin = tile.firstKey / kTileKeys * kTileKeys; begin < tile.endKey; begin += kTileKeys) {
    float scores[kTileKeys / 8][4];
    tile.loadKeys(begin);
    tile.score(begin, scores);
    tile.weigh(scores, states, sums);
    tile.addValues(scores, sums);
    const bool isLast = (begin + kTileKeys) % kSplit == 0 || begin + kTileKeys >= tile.endKey;
    if (Splits || !isLast) continue;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      // a split without keys of this row changes nothing
      const float maximum = largerOf(merged[half].maximum, states[half].maximum);
      const bool counts = states[half].maximum != -INFINITY;
      const float keep = counts ? mergeFactor(merged[half].maximum, maximum) : 1.0f, join = counts ? expf(states[half].maximum - maximum) : 0.0f;
      merged[half] = {maximum, merged[half].weight * keep + states[half].weight * join};
      states[half] = {-INFINITY, 0};
#pragma unroll
      for (int n = 0; n < D / 8; n++)
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; i++) {
          totals[n][i] = totals[n][i] * keep + sums[n][i] * join;
          sums[n][i] = 0;
        }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const QueryRow& q = tile.rows[half];
    if (!q.isThere) continue;
    float* partial = Splits ? partialOf(args, q.token, q.head, blockIdx.z) : nullptr;
#pragma unroll
    for (int n = 0; n < D / 8; n++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int32_t d = n * 8 + lane % 4 * 2 + i;
        if (Splits) partial[d] = sums[n][2 * half + i];
        else storeOutput(args, q.token, q.head, d, totals[n][2 * half + i], merged[half]);
      }
    if (Splits && lane % 4 == 0) {
      partial[D] = states[half].maximum;
      partial[D + 1] = states[half].weight;
    }
  }
}

template <int D, int Warps, bool Splits>
void launchTiles(const AttentionArgs& args, const Stream& stream) {
  launch(tilesKernel<D, Warps, Splits>, {args.numTiles, args.cache.numKvHeads, Splits ? args.numSplits : 1}, Warps * kWarp, sizeof(Shared<D, Warps>), stream, args);
}

template <int D>
void launchHead(const AttentionArgs& args, const Stream& stream) {
  const int32_t group = args.numHeads / args.cache.numKvHeads;
  const bool single = args.numTiles == args.tokens && group <= kRowsPerWarp, splits = args.partials != nullptr;
  if (single && splits) launchTiles<D, 1, true>(args, stream);
  else if (single) launchTiles<D, 1, false>(args, stream);
  else if (splits) launchTiles<D, kMostWarps, true>(args, stream);
  else launchTiles<D, kMostWarps, false>(args, stream);
}

}  // namespace

int32_t attentionTileTokens(int32_t headsPerKvHead) { return headsPerKvHead >= kMostWarps * kRowsPerWarp ? 1 : kMostWarps * kRowsPerWarp / headsPerKvHead; }

bool attentionTilesSupports(const AttentionArgs& args) {
  const bool fits = args.numHeads / args.cache.numKvHeads <= kMostWarps * kRowsPerWarp;
  return args.cache.dtype == KvDtype::bf16 && (args.cache.headDim == 64 || args.cache.headDim == 128) && fits;
}

void attentionTiles(const AttentionArgs& args, const Stream& stream) {
  if (args.cache.headDim == 64) launchHead<64>(args, stream);
  else launchHead<128>(args, stream);
}

}  // namespace millrace::cuda
