#include "weight.h"

#include <cstring>
#include <string>

#include "../common/error.h"
#include "../cpu/weight.h"
#include "linear_tiles.h"

namespace millrace::cuda {
namespace {

size_t packedBytes(WeightFormat format, int32_t n, int32_t k) {
  if (format == WeightFormat::bf16) return static_cast<size_t>(tilesOf(n, kTileN) * tilesOf(k, kTileK) * kTileElements) * sizeof(uint16_t);
  return cpu::storedBytes(format, static_cast<size_t>(n) * static_cast<size_t>(k));
}

void packRows(cpu::PackedMatrix* w, int32_t rowBegin, int32_t numRows, const uint8_t* source) {
  const size_t columns = static_cast<size_t>(w->k), rowBytes = cpu::storedBytes(w->format, columns);
  if (w->format != WeightFormat::bf16) {
    std::memcpy(w->data + static_cast<size_t>(rowBegin) * rowBytes, source, static_cast<size_t>(numRows) * rowBytes);
    return;
  }
  uint16_t* out = reinterpret_cast<uint16_t*>(w->data);
  const int64_t kTiles = tilesOf(w->k, kTileK);
  for (int32_t r = 0; r < numRows; r++)
    for (int32_t k = 0; k < w->k; k++) std::memcpy(out + weightPlace(rowBegin + r, k, kTiles), source + static_cast<size_t>(r) * rowBytes + 2 * static_cast<size_t>(k), 2);
}

// The packing of cpu::Weight with the layouts of this device.
const cpu::KernelTable& packingTable() {
  static const cpu::KernelTable table = [] {
    cpu::KernelTable t{};
    t.isa = "cuda";
    t.packedBytes = packedBytes;
    t.packRows = packRows;
    t.packRowMultiple = kTileN;
    return t;
  }();
  return table;
}

}  // namespace

Weight::Weight(const PlanWeight& shape, const std::vector<WeightPart>& parts, cpu::ThreadPool& pool, const Stream& stream) : shape_(shape) {
  const auto plain = [](WeightFormat format) { return format == WeightFormat::f32 || format == WeightFormat::f16 || format == WeightFormat::bf16; };
  bool supported = shape.rank == 1 || (shape.rank == 2 && plain(static_cast<WeightFormat>(shape.format)));
  for (const WeightPart& part : parts) supported = supported && (plain(part.format) || part.format == WeightFormat::q8_0);
  require(supported, "WEIGHTS_FORMAT_UNSUPPORTED", "The GPU has no kernel for weights of this format: it has f32, f16 and bf16 matrices.");
  const cpu::Weight packed(shape, parts, packingTable(), pool);
  const uint8_t* from = shape.rank == 1 ? reinterpret_cast<const uint8_t*>(packed.vector()) : packed.matrix().data;
  memory_ = Buffer(packed.sizeBytes(), "weights");
  stream.upload(memory_.data(), from, packed.sizeBytes());
  stream.synchronize();
}

}  // namespace millrace::cuda
