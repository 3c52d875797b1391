// Packing of weight matrices into the layout of linear.h, and single rows back out of it. Row-major sources: f32, f16, bf16 [n][k];
// q8_0 [n][k / 32]{ f16 scale; int8[32] } and q4_0 [n][k / 32]{ f16 scale; nibbles[16] }, as in GGUF. Other formats go field by field (linear_fields.cc). Streams: bound by memory.
#include "linear.h"
#include "linear_table.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

constexpr int kStepsAtOnce = 64;  // of K, so that the tile lines being written stay in cache while 64 rows are read

// Rows of one tile, seen from the packed side.
struct TileRows {
  uint8_t* tile;
  int lane;  // of the first row
  int rows;
  int32_t k;
  const uint8_t* source;
};

template <class Element>
void packPlain(const TileRows& t) {
  Element* out = reinterpret_cast<Element*>(t.tile) + t.lane;
  const Element* in = reinterpret_cast<const Element*>(t.source);
  for (int begin = 0; begin < t.k; begin += kStepsAtOnce) {
    const int end = smaller(t.k, begin + kStepsAtOnce);
    for (int r = 0; r < t.rows; r++)
      for (int k = begin; k < end; k++) std::memcpy(out + int64_t{k} * kTileOutputs + r, in + int64_t{r} * t.k + k, sizeof(Element));
  }
}

void packBf16(const TileRows& t) {
  for (int begin = 0; begin < t.k; begin += kStepsAtOnce) {
    const int end = smaller(t.k, begin + kStepsAtOnce);
    for (int r = 0; r < t.rows; r++) {
      const uint8_t* in = t.source + int64_t{r} * t.k * 2;
      for (int k = begin; k < end; k += 2) {
        uint32_t pair = 0;
        std::memcpy(&pair, in + int64_t{k} * 2, k + 1 < t.k ? 4 : 2);
        std::memcpy(t.tile + (int64_t{k} * kTileOutputs + (t.lane + r) * 2) * 2, &pair, 4);
      }
    }
  }
}

// Groups of a scale and `kBytes` bytes of levels, to which `flip` is applied.
template <int kBytes>
void packGroups(const TileRows& t, uint32_t flip) {
  constexpr int kSourceGroupBytes = 2 + kBytes, kGroupBytes = kTileOutputs * kSourceGroupBytes;
  const int64_t rowBytes = int64_t{t.k} / kQ8Group * kSourceGroupBytes;
  for (int g = 0; g < t.k / kQ8Group; g++) {
    uint8_t* group = t.tile + int64_t{g} * kGroupBytes;
    for (int r = 0; r < t.rows; r++) {
      const uint8_t* in = t.source + r * rowBytes + int64_t{g} * kSourceGroupBytes;
      std::memcpy(group + (t.lane + r) * 2, in, 2);
      for (int k = 0; k < kBytes; k += 4) {
        uint32_t four;
        std::memcpy(&four, in + 2 + k, 4);
        four ^= flip;
        std::memcpy(group + kTileOutputs * 2 + k * kTileOutputs + (t.lane + r) * 4, &four, 4);
      }
    }
  }
}

void packTileRows(WeightFormat format, const TileRows& t) {
  switch (format) {
    case WeightFormat::f32: return packPlain<uint32_t>(t);
    case WeightFormat::f16: return packPlain<uint16_t>(t);
    case WeightFormat::bf16: return packBf16(t);
    case WeightFormat::q8_0: return packGroups<kQ8Group>(t, kQ8Offset != 0 ? 0x80808080u : 0);
    case WeightFormat::q4_0: return packGroups<kQ8Group / 2>(t, 0);
    case WeightFormat::int8_channel: return packChannels(t.tile, t.lane, t.rows, t.k, t.source);
    default: return packFields(format, t.tile, t.lane, t.rows, t.k, t.source);
  }
}

}  // namespace

size_t packedBytes(WeightFormat format, int32_t n, int32_t k) {
  return static_cast<size_t>(ceilDiv(n, kTileOutputs) * tileBytes(format, k));
}

void packRows(PackedMatrix* w, int32_t rowBegin, int32_t numRows, const uint8_t* source) {
  const int64_t bytes = tileBytes(w->format, w->k), rowBytes = bytesOf(w->format, w->k);
  const int32_t end = rowBegin + numRows;
  for (int32_t row = rowBegin; row < end;) {
    const int32_t lane = row % kTileOutputs, rows = smaller(end - row, kTileOutputs - lane);
    uint8_t* tile = w->data + row / kTileOutputs * bytes;
    // Lanes beyond n are part of the last tile: cleared once, before its rows are written.
    if (w->n % kTileOutputs != 0 && row / kTileOutputs == w->n / kTileOutputs && lane == 0) std::memset(tile, 0, static_cast<size_t>(bytes));
    packTileRows(w->format, {tile, lane, rows, w->k, source});
    source += rows * rowBytes;
    row += rows;
  }
}

void unpackRow(const PackedMatrix& w, int32_t row, float* out) {
  const uint8_t* tile = w.data + row / kTileOutputs * tileBytes(w.format, w.k);
  const int lane = row % kTileOutputs;
  if (w.format == WeightFormat::int8_channel) return unpackChannel(tile, lane, w.k, out);
  if (w.format > WeightFormat::q4_0) return unpackFields(w.format, tile, lane, w.k, out);
  const auto half = [&](int64_t index) {
    uint16_t h;
    std::memcpy(&h, tile + index * 2, 2);
    return h;
  };
  switch (w.format) {
    case WeightFormat::f32:
      for (int64_t k = 0; k < w.k; k++) std::memcpy(out + k, tile + (k * kTileOutputs + lane) * 4, 4);
      break;
    case WeightFormat::f16:
      for (int64_t k = 0; k < w.k; k++) out[k] = f16ToF32(half(k * kTileOutputs + lane));
      break;
    case WeightFormat::bf16:
      for (int64_t k = 0; k < w.k; k++) out[k] = bf16ToF32(half((k / 2 * kTileOutputs + lane) * 2 + k % 2));
      break;
    case WeightFormat::q8_0:
      for (int64_t k = 0; k < w.k; k++) {
        const uint8_t* group = tile + k / kQ8Group * kQ8GroupBytes;
        uint16_t scale;
        std::memcpy(&scale, group + lane * 2, 2);
        const int64_t step = k % kQ8Group;
        const uint8_t stored = group[kTileOutputs * 2 + step / 4 * kTileOutputs * 4 + lane * 4 + step % 4];
        out[k] = f16ToF32(scale) * static_cast<float>(static_cast<int8_t>(stored ^ (kQ8Offset != 0 ? 0x80 : 0)));
      }
      break;
    case WeightFormat::q4_0:
      for (int64_t k = 0; k < w.k; k++) {
        const uint8_t* group = tile + k / kQ8Group * kQ4GroupBytes;
        uint16_t scale;
        std::memcpy(&scale, group + lane * 2, 2);
        const int64_t step = k % 16;
        const uint8_t stored = group[kTileOutputs * 2 + step / 4 * kTileOutputs * 4 + lane * 4 + step % 4];
        out[k] = f16ToF32(scale) * static_cast<float>((stored >> (k % kQ8Group >= 16 ? 4 : 0) & 15) - kQ4Offset);
      }
      break;
    default: break;
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
