// Where the fields of stored blocks go in a packed tile of 64 outputs: field after field, each as [elements of the field][64 outputs], an element being of
// 1, 2 or 4 bytes. Levels are fields of 4-byte elements, so that the 4 bytes of a lane are 4 steps of K side by side. As many bytes as the file has.
#pragma once

#include "../common/weight_formats.h"
#include "simd.h"

namespace millrace::cpu::MILLRACE_ISA {

#if (defined(MILLRACE_AVX2) && !defined(MILLRACE_VNNI)) || defined(MILLRACE_NEON)
constexpr bool kSignedWide = true;  // levels of 8 bits are signed: vpmaddubsw would saturate on unsigned ones, and sdot takes signed ones
#else
constexpr bool kSignedWide = false;
#endif

// `bits`: 32 single bits of the levels, one an element, which change places: bit s of byte b for element 4 s + b. `wide`: integer levels of 8 bits. `swapped`:
// the middle two of four bytes change places.
enum class FieldKind : uint8_t { plain, bits, wide, swapped };

// A field of a stored block: its first byte there, its number of elements and their size.
struct Field {
  int source, count, unit;
  FieldKind kind = FieldKind::plain;
};

constexpr int kMostFields = 9;
struct FieldList {
  int size;
  Field fields[kMostFields];
};

// One word of scale and zero point, then runs of 32 levels of `bits` bits.
constexpr FieldList integerFields(int bits, int runs) {
  FieldList list{0, {}};
  if (bits == 8) {
    list = {3, {{0, 1, 4}, {4, 1, 1}, {5, 8 * runs, 4, FieldKind::wide}}};
  } else if (bits == 3) {
    list = {1, {{0, 1, 4}}};
    for (int run = 0; run < runs; run++) {
      list.fields[list.size++] = {4 + 12 * run, 2, 4};
      list.fields[list.size++] = {12 + 12 * run, 1, 4, FieldKind::bits};
    }
  } else {
    list = {2, {{0, 1, 4}, {4, bits * runs, 4}}};
  }
  return list;
}

constexpr FieldList fieldsOf(WeightFormat format) {
  switch (format) {
    case WeightFormat::q4_1: return {3, {{0, 1, 2}, {2, 1, 2}, {4, 4, 4}}};
    case WeightFormat::q5_0: return {3, {{0, 1, 2}, {2, 1, 4, FieldKind::bits}, {6, 4, 4}}};
    case WeightFormat::q5_1: return {4, {{0, 1, 2}, {2, 1, 2}, {4, 1, 4, FieldKind::bits}, {8, 4, 4}}};
    case WeightFormat::q2_k: return {4, {{80, 1, 2}, {82, 1, 2}, {0, 16, 1}, {16, 16, 4}}};
    case WeightFormat::q3_k: return {4, {{108, 1, 2}, {96, 12, 1}, {0, 8, 4}, {32, 16, 4}}};
    case WeightFormat::q4_k: return {4, {{0, 1, 2}, {2, 1, 2}, {4, 12, 1}, {16, 32, 4}}};
    case WeightFormat::q5_k: return {5, {{0, 1, 2}, {2, 1, 2}, {4, 12, 1}, {16, 8, 4}, {48, 32, 4}}};
    case WeightFormat::q6_k: return {4, {{208, 1, 2}, {192, 16, 1}, {0, 32, 4}, {128, 16, 4}}};
    case WeightFormat::iq4_nl: return {2, {{0, 1, 2}, {2, 4, 4}}};
    case WeightFormat::iq4_xs: return {4, {{0, 1, 2}, {2, 1, 2}, {4, 4, 1}, {8, 32, 4}}};
    case WeightFormat::mxfp4: return {2, {{0, 1, 1}, {1, 4, 4}}};
    case WeightFormat::iq2_xxs: return {2, {{0, 1, 2}, {2, 16, 4}}};
    case WeightFormat::iq2_xs: return {3, {{0, 1, 2}, {2, 16, 4}, {66, 8, 1}}};
    case WeightFormat::iq2_s: return {5, {{0, 1, 2}, {2, 8, 4}, {34, 8, 4}, {66, 8, 1}, {74, 8, 1}}};
    case WeightFormat::iq3_xxs: return {3, {{0, 1, 2}, {2, 16, 4}, {66, 8, 4}}};
    case WeightFormat::iq3_s: return {5, {{0, 1, 2}, {2, 16, 4}, {66, 8, 1}, {74, 8, 4}, {106, 4, 1}}};
    case WeightFormat::iq1_s: return {3, {{0, 1, 2}, {2, 8, 4}, {34, 8, 2}}};
    case WeightFormat::iq1_m: return {3, {{0, 8, 4}, {32, 16, 1}, {48, 4, 2}}};
    case WeightFormat::tq1_0: return {3, {{52, 1, 2}, {0, 12, 4}, {48, 1, 4}}};
    case WeightFormat::tq2_0: return {2, {{64, 1, 2}, {0, 16, 4}}};
    case WeightFormat::int2_g32: return integerFields(2, 1);
    case WeightFormat::int2_g64: return integerFields(2, 2);
    case WeightFormat::int2_g128: return integerFields(2, 4);
    case WeightFormat::int3_g32: return integerFields(3, 1);
    case WeightFormat::int3_g64: return integerFields(3, 2);
    case WeightFormat::int3_g128: return integerFields(3, 4);
    case WeightFormat::int4_g32: return integerFields(4, 1);
    case WeightFormat::int4_g64: return integerFields(4, 2);
    case WeightFormat::int4_g128: return integerFields(4, 4);
    case WeightFormat::int8_g32: return integerFields(8, 1);
    case WeightFormat::int8_g128: return integerFields(8, 4);
    case WeightFormat::fp8_e5m2_g32:
    case WeightFormat::fp8_g32: return {2, {{0, 1, 4}, {4, 8, 4, FieldKind::swapped}}};
    case WeightFormat::fp8_e5m2_g128:
    case WeightFormat::fp8_g128: return {2, {{0, 1, 4}, {4, 32, 4, FieldKind::swapped}}};
    case WeightFormat::nf4: return {2, {{0, 1, 4}, {4, 8, 4}}};
    default: return {0, {}};
  }
}

// First byte of field `index` in the tile of a block.
constexpr int fieldAt(WeightFormat format, int index) {
  const FieldList list = fieldsOf(format);
  int bytes = 0;
  for (int i = 0; i < index; i++) bytes += list.fields[i].count * list.fields[i].unit;
  return bytes * 64;
}

}  // namespace millrace::cpu::MILLRACE_ISA
