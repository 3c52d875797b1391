// linear with weights in blocks of integer levels whose fields are packed apart: y[t, n] = sum over groups g of 32 of what field_groups.h says. Kernels:
// linear_fields.h; here Q4_1 to Q5_1, IQ4 and MXFP4, and packing. Layout: field_layout.h. Work split: linear.cc.
//   AVX-512, AVX-VNNI   vpdpbusd on unsigned levels: IQ4's carry 127, MXFP4's 12, so that all are
//   AVX2                vpmaddubsw: levels up to 128 are unsigned and never saturate; IQ4's are signed, as in linear_q8_0.cc
//   portable            f32, exact
// Measured (one thread of a Zen 5 server core, its own processor time against peaks of the same run: check/run.sh bench, beside other work; weights 4864 x 1024
// out of DRAM, AVX-512): 1 row 90-100 % of the memory bandwidth (30 GB/s; MXFP4, IQ4); 8 rows 42-44 %, 32 rows 57-60 %, 512 rows 63-67 % of the vpdpbusd peak (1,100 GOP/s).
#include "linear_fields.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

// Fifth bits from the order of the file (bit i for element i) to that of the tile, or back.
uint32_t turnBits(uint32_t bits, bool toTile) {
  uint32_t turned = 0;
  for (int i = 0; i < 32; i++) {
    const int there = i % 4 * 8 + i / 4, from = toTile ? i : there, to = toTile ? there : i;
    turned |= (bits >> from & 1u) << to;
  }
  return turned;
}

// An element of a field, from the file to the tile or back.
void copyElement(const Field& field, const uint8_t* from, uint8_t* to, bool toTile) {
  if (field.unit < 4) return void(std::memcpy(to, from, static_cast<size_t>(field.unit)));
  uint32_t word = readAs<uint32_t>(from);
  if (field.kind == FieldKind::bits) word = turnBits(word, toTile);
  if (field.kind == FieldKind::wide && kSignedWide) word ^= 0x80808080u;
  if (field.kind == FieldKind::swapped) word = (word & 0xff0000ffu) | (word >> 8 & 0xff00u) | (word << 8 & 0xff0000u);
  std::memcpy(to, &word, 4);
}

// Calls f(field, its place in a tile).
template <class F>
void forFields(const FieldList& list, F&& f) {
  int at = 0;
  for (int i = 0; i < list.size; i++) {
    f(list.fields[i], at);
    at += list.fields[i].count * list.fields[i].unit * kTileOutputs;
  }
}

}  // namespace

TileKernel fieldsKernel(WeightFormat format, Activation activation) {
  switch (format) {
    case WeightFormat::q4_1: return pickFields<WeightFormat::q4_1>(activation);
    case WeightFormat::q5_0: return pickFields<WeightFormat::q5_0>(activation);
    case WeightFormat::q5_1: return pickFields<WeightFormat::q5_1>(activation);
    case WeightFormat::iq4_nl: return pickFields<WeightFormat::iq4_nl>(activation);
    case WeightFormat::mxfp4: return pickFields<WeightFormat::mxfp4>(activation);
    default: break;
  }
  if (isIntegerGroups(format)) return integerGroupKernel(format, activation);
  return isCodeBook(format) ? codeBookKernel(format, activation) : superBlockKernel(format, activation);
}

void packFields(WeightFormat format, uint8_t* tile, int lane, int rows, int32_t k, const uint8_t* source) {
  const BlockSize size = blockSize(format);
  const FieldList list = fieldsOf(format);
  const int64_t blocks = k / size.elements;
  for (int64_t block = 0; block < blocks; block++) {
    uint8_t* to = tile + block * size.bytes * kTileOutputs;
    for (int r = 0; r < rows; r++) {
      const uint8_t* from = source + (r * blocks + block) * size.bytes;
      forFields(list, [&](const Field& field, int at) {
        uint8_t* out = to + at + (lane + r) * field.unit;
        for (int i = 0; i < field.count; i++) copyElement(field, from + field.source + i * field.unit, out + i * kTileOutputs * field.unit, true);
      });
    }
  }
}

void unpackFields(WeightFormat format, const uint8_t* tile, int lane, int32_t k, float* out) {
  const BlockSize size = blockSize(format);
  const FieldList list = fieldsOf(format);
  uint8_t block[256];
  for (int64_t b = 0; b < k / size.elements; b++, out += size.elements) {
    const uint8_t* from = tile + b * size.bytes * kTileOutputs;
    forFields(list, [&](const Field& field, int at) {
      for (int i = 0; i < field.count; i++)
        copyElement(field, from + at + (i * kTileOutputs + lane) * field.unit, block + field.source + i * field.unit, false);
    });
    unpackBlockRow(format, block, size.elements, out);
  }
}

}  // namespace millrace::cpu::MILLRACE_ISA
