#include "weight.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../common/error.h"

namespace millrace::cpu {
namespace {

constexpr int kGroup = 32;       // elements of a q8_0 block
constexpr int kGroupBytes = 34;  // of q8_0: f16 scale, then 32 int8
constexpr size_t kChunkBytes = size_t{1} << 19;

float bitsToFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
uint32_t floatToBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
uint16_t loadU16(const uint8_t* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
void storeU16(uint8_t* p, uint16_t value) { std::memcpy(p, &value, sizeof value); }

float bf16ToFloat(uint16_t h) { return bitsToFloat(static_cast<uint32_t>(h) << 16); }

uint16_t floatToBf16(float value) {
  const uint32_t bits = floatToBits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16ToFloat(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) return bitsToFloat(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  return bitsToFloat(sign | floatToBits(bitsToFloat(magnitude << 13) * 0x1p112f));
}

// Nearest, ties to even; as numberToF16 of src/base/dtype.ts.
uint16_t floatToF16(float value) {
  const uint32_t bits = floatToBits(value);
  const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) return static_cast<uint16_t>(sign | (floatToBits(bitsToFloat(magnitude) + 0.5f) - 0x3f000000u));
  const uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

void toFloats(WeightFormat format, const uint8_t* bytes, size_t count, float* out, const KernelTable& kernels) {
  switch (format) {
    case WeightFormat::f32: std::memcpy(out, bytes, count * 4); break;
    case WeightFormat::f16: for (size_t i = 0; i < count; i++) out[i] = f16ToFloat(loadU16(bytes + 2 * i)); break;
    case WeightFormat::bf16: for (size_t i = 0; i < count; i++) out[i] = bf16ToFloat(loadU16(bytes + 2 * i)); break;
    case WeightFormat::q8_0:
      for (size_t i = 0; i < count; i++) {
        const uint8_t* block = bytes + i / kGroup * kGroupBytes;
        out[i] = f16ToFloat(loadU16(block)) * static_cast<float>(static_cast<int8_t>(block[2 + i % kGroup]));
      }
      break;
    default: {  // packed as a matrix of one row, and back
      const int32_t columns = static_cast<int32_t>(count);
      std::vector<uint8_t> packed(kernels.packedBytes(format, 1, columns));
      PackedMatrix row{format, 1, columns, packed.data()};
      kernels.packRows(&row, 0, 1, bytes);
      kernels.unpackRow(row, 0, out);
    }
  }
}

// As quantize of src/quant/formats/q8_0.ts, quotients in double like there.
void quantizeGroup(const float* values, uint8_t* block) {
  float largest = 0;
  for (int i = 0; i < kGroup; i++) largest = std::max(largest, std::fabs(values[i]));
  const uint16_t bits = floatToF16(largest / 127.0f);
  const double scale = f16ToFloat(bits);
  storeU16(block, bits);
  for (int i = 0; i < kGroup; i++) {
    const double steps = scale == 0 ? 0 : std::floor(values[i] / scale + 0.5);
    block[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::max(-127.0, std::min(127.0, steps))));
  }
}

void fromFloats(WeightFormat format, const float* values, size_t count, uint8_t* out) {
  switch (format) {
    case WeightFormat::f32: std::memcpy(out, values, count * 4); break;
    case WeightFormat::f16: for (size_t i = 0; i < count; i++) storeU16(out + 2 * i, floatToF16(values[i])); break;
    case WeightFormat::bf16: for (size_t i = 0; i < count; i++) storeU16(out + 2 * i, floatToBf16(values[i])); break;
    case WeightFormat::q8_0: for (size_t i = 0; i < count; i += kGroup) quantizeGroup(values + i, out + i / kGroup * kGroupBytes); break;
    default: throw Error("INTERNAL", "Weights are never converted to this format.");
  }
}

// The stored row that holds row `row` of the Hugging Face order.
int32_t storedRow(const WeightPart& part, int32_t row) {
  if (part.ropeHeadDim == 0) return row;
  const int32_t within = row % part.ropeHeadDim, half = part.ropeHeadDim / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

bool isAligned(const uint8_t* bytes) { return reinterpret_cast<uintptr_t>(bytes) % 4 == 0; }

void checkParts(const PlanWeight& shape, const std::vector<WeightPart>& parts) {
  int64_t rows = 0;
  for (const WeightPart& part : parts) {
    require(rows / shape.rows == (rows + part.rows - 1) / shape.rows, "WEIGHTS_SHAPE_MISMATCH", "A tensor lies across matrices.");
    rows += part.rows;
    const size_t columns = static_cast<size_t>(shape.columns);
    const size_t row = shape.rank >= 2 ? columns : static_cast<size_t>(part.rows);
    const size_t block = static_cast<size_t>(blockSize(part.format).elements);
    require(part.rows > 0 && row % block == 0, "WEIGHTS_SHAPE_MISMATCH", "Rows of a tensor are not whole blocks.");
    require(part.sizeBytes == storedBytes(part.format, static_cast<size_t>(part.rows) * columns), "WEIGHTS_FILE_INVALID",
            "A tensor does not have the bytes of its shape.");
    const bool kept = part.format == static_cast<WeightFormat>(shape.format) && part.shift == 0;
    require(kept || shape.rank == 1 || shape.format <= static_cast<int32_t>(WeightFormat::q8_0), "WEIGHTS_FORMAT_UNSUPPORTED",
            "A tensor cannot be converted to the format of its weight.");
    const bool whole = part.ropeHeadDim == 0 || (part.ropeHeadDim > 0 && part.ropeHeadDim % 2 == 0 && part.rows % part.ropeHeadDim == 0);
    require(whole, "WEIGHTS_SHAPE_MISMATCH", "A tensor with rotary row order is not made of whole heads.");
  }
  require(rows == int64_t{shape.rows} * shape.count, "WEIGHTS_SHAPE_MISMATCH", "The parts of a weight do not have its rows.");
}

// Packs a matrix in chunks of rows; a chunk that lies in one part as the kernels want it is packed from where it lies.
class MatrixPacker {
 public:
  MatrixPacker(PackedMatrix& matrix, const std::vector<WeightPart>& parts, const KernelTable& kernels, ThreadPool& pool)
      : matrix_(matrix), parts_(parts), kernels_(kernels), pool_(pool) {
    rowBytes_ = storedBytes(matrix.format, static_cast<size_t>(matrix.k));
    const size_t multiple = static_cast<size_t>(std::max(1, kernels.packRowMultiple));
    chunkRows_ = static_cast<int32_t>(multiple * std::max<size_t>(1, kChunkBytes / (multiple * rowBytes_)));
    int32_t first = 0;
    for (const WeightPart& part : parts) {
      firstRows_.push_back(first);
      first += part.rows;
    }
  }

  void pack() {
    const int64_t numChunks = (int64_t{matrix_.n} + chunkRows_ - 1) / chunkRows_;
    buffers_.resize(static_cast<size_t>(pool_.numThreads()));
    rows_.resize(buffers_.size());
    for (size_t i = 0; i < buffers_.size() && !allInPlace(); i++) {
      buffers_[i].resize(rowBytes_ * static_cast<size_t>(chunkRows_));
      rows_[i].resize(static_cast<size_t>(matrix_.k));
    }
    pool_.parallel(numChunks, [&](int64_t chunk, int worker) { packChunk(static_cast<int32_t>(chunk * chunkRows_), static_cast<size_t>(worker)); });
    for (const WeightPart& part : parts_)
      if (part.file != nullptr) part.file->release(part.offset, part.sizeBytes);
  }

 private:
  bool storedAsWanted(const WeightPart& part) const {
    return part.format == matrix_.format && part.ropeHeadDim == 0 && part.shift == 0 && isAligned(part.bytes) && isAligned(part.bytes + rowBytes_);
  }
  bool allInPlace() const { return parts_.size() == 1 && storedAsWanted(parts_[0]); }

  size_t partOf(int32_t row) const {
    return static_cast<size_t>(std::upper_bound(firstRows_.begin(), firstRows_.end(), row) - firstRows_.begin()) - 1;
  }

  void packChunk(int32_t begin, size_t worker) {
    const int32_t count = std::min(chunkRows_, matrix_.n - begin);
    const size_t first = partOf(begin);
    const WeightPart& part = parts_[first];
    if (storedAsWanted(part) && (buffers_[worker].empty() || partOf(begin + count - 1) == first)) {
      const size_t offset = static_cast<size_t>(begin - firstRows_[first]) * rowBytes_;
      kernels_.packRows(&matrix_, begin, count, part.bytes + offset);
      if (part.file != nullptr) part.file->release(part.offset + offset, static_cast<size_t>(count) * rowBytes_);
      return;
    }
    for (int32_t i = 0; i < count; i++) readRow(begin + i, buffers_[worker].data() + static_cast<size_t>(i) * rowBytes_, rows_[worker].data());
    kernels_.packRows(&matrix_, begin, count, buffers_[worker].data());
  }

  void readRow(int32_t row, uint8_t* out, float* scratch) const {
    const size_t index = partOf(row);
    const WeightPart& part = parts_[index];
    const size_t columns = static_cast<size_t>(matrix_.k);
    const uint8_t* stored = part.bytes + static_cast<size_t>(storedRow(part, row - firstRows_[index])) * storedBytes(part.format, columns);
    if (part.format == matrix_.format && part.shift == 0) {
      std::memcpy(out, stored, rowBytes_);
      return;
    }
    toFloats(part.format, stored, columns, scratch, kernels_);
    if (part.shift != 0)
      for (size_t i = 0; i < columns; i++) scratch[i] += part.shift;
    fromFloats(matrix_.format, scratch, columns, out);
  }

  PackedMatrix& matrix_;
  const std::vector<WeightPart>& parts_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  size_t rowBytes_ = 0;
  int32_t chunkRows_ = 0;
  std::vector<int32_t> firstRows_;
  std::vector<std::vector<uint8_t>> buffers_;  // per worker: a chunk as the kernels want it
  std::vector<std::vector<float>> rows_;       // per worker: a row being converted
};

void readVector(const WeightPart& part, const KernelTable& kernels, float* out) {
  std::vector<float> stored(static_cast<size_t>(part.rows));
  toFloats(part.format, part.bytes, stored.size(), stored.data(), kernels);
  for (int32_t i = 0; i < part.rows; i++) out[i] = stored[static_cast<size_t>(storedRow(part, i))] + part.shift;
  if (part.file != nullptr) part.file->release(part.offset, part.sizeBytes);
}

}  // namespace

size_t storedBytes(WeightFormat format, size_t elements) {
  return static_cast<size_t>(bytesOf(format, static_cast<int64_t>(elements)));
}

// Each matrix must be as many parts, which lie in files as the kernels pack them. Says whether it is so.
bool Weight::mapRows(const std::vector<WeightPart>& parts) {
  const size_t count = static_cast<size_t>(shape_.count), runs = parts.size() / count;
  const WeightFormat format = static_cast<WeightFormat>(shape_.format);
  const size_t element = blockSize(format).elements > 1 ? 1 : static_cast<size_t>(blockSize(format).bytes);
  int64_t rows = 0;
  for (size_t i = 0; i < parts.size(); i++) {
    const WeightPart& part = parts[i];
    const bool asWanted = part.file != nullptr && part.format == format && part.ropeHeadDim == 0 && part.shift == 0;
    if (!asWanted || reinterpret_cast<uintptr_t>(part.bytes) % element != 0 || parts.size() % count != 0) return false;
    rows += part.rows;
    if ((i + 1) % runs == 0 && rows != static_cast<int64_t>((i + 1) / runs) * shape_.rows) return false;
  }
  for (const WeightPart& part : parts) {
    stored_.push_back(StoredRows{part.bytes, part.rows});
    if (std::find(files_.begin(), files_.end(), part.file) == files_.end()) files_.push_back(part.file);
  }
  matrices_.assign(count, PackedMatrix{format, shape_.rows, shape_.columns, nullptr});
  return true;
}

Weight::Weight(const PlanWeight& shape, const std::vector<WeightPart>& parts, const KernelTable& kernels, ThreadPool& pool, bool mapped) : shape_(shape) {
  checkParts(shape, parts);
  if (mapped && shape.rank == 3 && mapRows(parts)) return;
  for (const WeightPart& part : parts)
    if (part.file != nullptr) part.file->willNeed(part.offset, part.sizeBytes);
  if (shape.rank == 1) {
    memory_ = Memory(static_cast<size_t>(shape.rows) * sizeof(float), "a vector of weights");
    float* out = reinterpret_cast<float*>(memory_.data());
    for (const WeightPart& part : parts) {
      readVector(part, kernels, out);
      out += part.rows;
    }
    return;
  }
  const WeightFormat format = static_cast<WeightFormat>(shape.format);
  const size_t bytes = (kernels.packedBytes(format, shape.rows, shape.columns) + 63) / 64 * 64;
  memory_ = Memory(bytes * static_cast<size_t>(shape.count), "a matrix of weights");
  auto part = parts.begin();
  for (int32_t i = 0; i < shape.count; i++) {
    matrices_.push_back(PackedMatrix{format, shape.rows, shape.columns, memory_.data() + bytes * static_cast<size_t>(i)});
    std::vector<WeightPart> own;
    for (int32_t rows = 0; rows < shape.rows; rows += part++->rows) own.push_back(*part);
    MatrixPacker(matrices_.back(), own, kernels, pool).pack();
  }
}

}  // namespace millrace::cpu
