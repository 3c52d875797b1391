// Groups of 32 levels out of packed fields (field_layout.h), in registers: what each format's levels, scales and minimums are. Private to linear_fields*.
// With integers l (levels), X (the sum of a group's activations, X0 and X1 of its halves) and activations q under the scale s of theirs, a group adds
//   none      s * scale * sum(q * (l - offset)), once for each part
//   minimum   the same, and s * X * minimum
//   zero      s * scale * (sum(q * l) - X * zero): one exact integer
//   pairs     s * scale * sum(q * l), and s * minimum * (X0 * m0 + X1 * m1), both sums exact integers
#pragma once

#include "block_formats.h"
#include "code_book_groups.h"
#include "field_layout.h"
#include "field_vectors.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

enum class Extra { none, minimum, zero, pairs };

constexpr bool isOneOf(WeightFormat) { return false; }
template <class... Rest>
constexpr bool isOneOf(WeightFormat format, WeightFormat first, Rest... rest) { return format == first || isOneOf(format, rest...); }

constexpr bool isUneven(WeightFormat f) { return f == WeightFormat::iq4_nl || f == WeightFormat::iq4_xs; }

// What all groups of a format have in common.
template <WeightFormat kFormat>
struct FieldTraits {
  using F = WeightFormat;
  static constexpr bool kInteger = isIntegerGroups(kFormat);
  static constexpr int kBits = kInteger ? bitsOfGroups(kFormat) : 0;
  static constexpr int kElements = elementsOf(kFormat), kGroups = kElements / 32;
  static constexpr int kParts = isOneOf(kFormat, F::q3_k, F::q6_k, F::iq2_xs, F::iq2_s, F::iq1_m) ? 2 : 1;  // scales of a group
  static constexpr Extra kExtra = kInteger                                                      ? Extra::zero
                                  : kFormat == F::q2_k                                          ? Extra::pairs
                                  : isOneOf(kFormat, F::q4_1, F::q5_1, F::q4_k, F::q5_k) ? Extra::minimum
                                                                                                : Extra::none;
  static constexpr bool kWide = isUneven(kFormat) || kBits == 8;  // levels above 128
  // What levels carry on top.
  static constexpr int kOffset = kFormat == F::q6_k    ? 32
                                 : kFormat == F::q5_0  ? 16
                                 : kFormat == F::q3_k  ? 4
                                 : kFormat == F::mxfp4 ? 12
                                 : isUneven(kFormat)   ? (kSignedWide ? 0 : 127)
                                 : isCodeBook(kFormat) ? codeBookOffset(kFormat)
                                 : isOneOf(kFormat, F::tq1_0, F::tq2_0) ? 1
                                                                        : 0;
  static constexpr int kBlockBytes = fieldAt(kFormat, fieldsOf(kFormat).size);
  template <int index> static constexpr int at = fieldAt(kFormat, index);
};

// Twice the levels of E2M1, and the levels of IQ4, with their offsets.
alignas(16) constexpr int8_t kE2m1Lifted[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
alignas(16) constexpr uint8_t kUnevenLifted[16] = {0, 23, 44, 62, 78, 92, 105, 117, 128, 140, 152, 165, 180, 196, 216, 240};

// Digit n, of 0 to 2, of the five in each byte of TQ1_0: floor(3 * (byte * 3^n mod 256) / 256).
template <int kPower>
MILLRACE_INLINE Bytes ternaryDigits(Bytes v) {
  const Bytes mask = asPairs(255);
  const Bytes even = mulPairs(andBytes(mulPairs(andBytes(v, mask), asPairs(kPower)), mask), asPairs(3));
  const Bytes odd = mulPairs(andBytes(mulPairs(shiftPairsRight<8>(v), asPairs(kPower)), mask), asPairs(3));
  return orBytes(shiftPairsRight<8>(even), andBytes(odd, asPairs(0xff00)));
}

// Group j, a constant, of a block of a tile.
template <WeightFormat kFormat, int j>
struct FieldGroup : FieldTraits<kFormat> {
  using Traits = FieldTraits<kFormat>;
  using F = WeightFormat;
  static constexpr int half_ = j / 4, quarter = j % 4;  // of a super-block of 256: its halves, and the group within one
  const uint8_t* block;

  MILLRACE_INLINE explicit FieldGroup(const uint8_t* b) : block(b) {}

  template <int index>
  MILLRACE_INLINE Bytes words(int element, int lane) const { return loadBytes(block + Traits::template at<index> + element * kStepBytes + lane * 4); }
  template <int index>
  MILLRACE_INLINE const uint8_t* bytes(int element, int lane) const { return block + Traits::template at<index> + element * kTileOutputs + lane; }
  template <int index>
  MILLRACE_INLINE Vec half(int lane) const { return loadF16(reinterpret_cast<const uint16_t*>(block + Traits::template at<index>) + lane); }

  // Nibbles as in Q4_0: steps 0 to 3 low, 4 to 7 high; `first` is the group's first word.
  template <int index>
  MILLRACE_INLINE Bytes nibbles(int first, int step, int lane) const {
    const Bytes stored = words<index>(first + step % 4, lane);
    return step < 4 ? bits<15, 0>(stored) : bits<15, 4>(stored);
  }

  // Levels of four steps of K of kLanes outputs from `lane` on.
  MILLRACE_INLINE Bytes levels(int step, int lane) const {
    if constexpr (isCodeBook(kFormat)) return codeBook<0>(step, lane);
    else if constexpr (kFormat == F::q4_1) return nibbles<2>(0, step, lane);
    else if constexpr (kFormat == F::q5_0) return onTop<4>(nibbles<2>(0, step, lane), bitsAt<1>(words<1>(0, lane), step));
    else if constexpr (kFormat == F::q5_1) return onTop<4>(nibbles<3>(0, step, lane), bitsAt<1>(words<2>(0, lane), step));
    else if constexpr (kFormat == F::q2_k) return mulPairs(bits<3, quarter * 2>(words<3>(half_ * 8 + step, lane)), bothHalves(scaleAndMinimum<15, 0>(step / 4, lane)));
    else if constexpr (kFormat == F::q3_k) return onTop<2>(bits<3, quarter * 2>(words<3>(half_ * 8 + step, lane)), bits<1, j>(words<2>(step, lane)));
    else if constexpr (kFormat == F::q4_k) return bits<15, j % 2 * 4>(words<3>(j / 2 * 8 + step, lane));
    else if constexpr (kFormat == F::q5_k) return onTop<4>(bits<15, j % 2 * 4>(words<4>(j / 2 * 8 + step, lane)), bits<1, j>(words<3>(step, lane)));
    else if constexpr (kFormat == F::q6_k) {
      const Bytes low = bits<15, quarter / 2 * 4>(words<2>(half_ * 16 + quarter % 2 * 8 + step, lane));
      return onTop<4>(low, bits<3, quarter * 2>(words<3>(half_ * 8 + step, lane)));
    } else if constexpr (kFormat == F::iq4_nl) return lookup16(uneven(), nibbles<1>(0, step, lane));
    else if constexpr (kFormat == F::iq4_xs) return lookup16(uneven(), nibbles<3>(j * 4, step, lane));
    else if constexpr (kFormat == F::mxfp4) return lookup16(kE2m1Lifted, nibbles<1>(0, step, lane));
    else if constexpr (kFormat == F::tq2_0) return bits<3, quarter * 2>(words<1>(half_ * 8 + step, lane));
    else if constexpr (kFormat == F::tq1_0) return ternary(step, lane);
    else if constexpr (Traits::kBits == 2) return bitsAt<3>(words<1>(j * 2 + step % 2, lane), step / 2 * 2);
    else if constexpr (Traits::kBits == 3) return onTop<2>(bitsAt<3>(words<1 + 2 * j>(step % 2, lane), step / 2 * 2), bitsAt<1>(words<2 + 2 * j>(0, lane), step));
    else if constexpr (Traits::kBits == 4) return nibbles<1>(j * 4, step, lane);
    else return words<2>(j * 8 + step, lane);
  }

  MILLRACE_INLINE Vec scale(int part, int lane) const {
    if constexpr (isCodeBook(kFormat)) return codeBookScale<kFormat, j>(*this, part, lane);
    else if constexpr (Traits::kInteger) return asFloat(Traits::kBits == 8 ? words<0>(0, lane) : andInt(words<0>(0, lane), set1Int(-256)));
    else if constexpr (kFormat == F::q6_k) return mul(half<0>(lane), intToFloat(widenSigned(bytes<1>(2 * j + part, lane))));
    else if constexpr (kFormat == F::q3_k) {
      const int i = 2 * j + part;  // six bits: four of them in byte i % 8, two on top in byte 8 + i % 4
      const VecI low = andInt(shiftRightSigned<j / 4 * 4>(widenBytes(bytes<1>(i % 8, lane))), set1Int(15));
      const VecI high = andInt(shiftRightSigned<j / 2 * 2>(widenBytes(bytes<1>(8 + i % 4, lane))), set1Int(3));
      return mul(half<0>(lane), intToFloat(subInt(orInt(low, shiftLeft<4>(high)), set1Int(32))));
    } else if constexpr (kFormat == F::q4_k || kFormat == F::q5_k) {
      const VecI six = j < 4 ? andInt(widenBytes(bytes<2>(j, lane)), set1Int(63))
                             : orInt(andInt(widenBytes(bytes<2>(j + 4, lane)), set1Int(15)), shiftLeft<4>(shiftRightSigned<6>(widenBytes(bytes<2>((j - 4) & 15, lane)))));
      return mul(half<0>(lane), intToFloat(six));
    } else if constexpr (kFormat == F::iq4_xs) {
      const VecI low = andInt(shiftRightSigned<j % 2 * 4>(widenBytes(bytes<2>(j / 2, lane))), set1Int(15));
      const VecI high = andInt(shiftRightSigned<j * 2>(widenHalves(block + Traits::template at<1> + lane * 2)), set1Int(3));
      return mul(half<0>(lane), intToFloat(subInt(orInt(low, shiftLeft<4>(high)), set1Int(32))));
    } else if constexpr (kFormat == F::mxfp4) {
      // Half of 2^(exponent - 127), since the levels are doubled; below 2 a subnormal number, and 255 is NaN.
      const VecI exponent = widenBytes(bytes<0>(0, lane));
      const Vec normal = asFloat(shiftLeft<23>(subInt(exponent, set1Int(1))));
      const Vec e = intToFloat(exponent);
      const Vec tiny = selectLess(e, set1(0.5f), set1(0x1p-128f), set1(0x1p-127f));
      return selectLess(e, set1(1.5f), tiny, selectLess(set1(254.5f), e, asFloat(set1Int(0x7fc00000)), normal));
    } else return half<0>(lane);
  }

  // f32: of a group with minimums; of pairs, what their sum is multiplied by.
  MILLRACE_INLINE Vec minimum(int lane) const {
    if constexpr (kFormat == F::q4_1 || kFormat == F::q5_1) return half<1>(lane);
    else if constexpr (kFormat == F::q2_k) return sub(zero(), half<1>(lane));
    else if constexpr (Traits::kExtra == Extra::minimum) {
      const VecI six = j < 4 ? andInt(widenBytes(bytes<2>(j + 4, lane)), set1Int(63))
                             : orInt(shiftRightSigned<4>(widenBytes(bytes<2>(j + 4, lane))), shiftLeft<4>(shiftRightSigned<6>(widenBytes(bytes<2>(j, lane)))));
      return mul(sub(zero(), half<1>(lane)), intToFloat(six));
    } else return zero();
  }

  // Integers: the zero point of a group, less what its levels are stored less; of pairs, two 16-bit numbers in a lane.
  MILLRACE_INLINE VecI integers(int lane) const {
    if constexpr (Traits::kBits == 8) {
      const VecI zero = widenBytes(bytes<1>(0, lane));
      return kSignedWide ? andInt(subInt(zero, set1Int(128)), set1Int(0xffff)) : zero;
    } else if constexpr (Traits::kInteger) return andInt(words<0>(0, lane), set1Int(255));
    else if constexpr (kFormat == F::q2_k) return orInt(scaleAndMinimum<15, 4>(0, lane), shiftLeft<16>(scaleAndMinimum<15, 4>(1, lane)));
    else return set1Int(0);
  }

  // Whether `levels` of `step` reads bytes that no earlier step has read.
  static constexpr bool isFresh(int step) {
    if (isOneOf(kFormat, F::iq2_xxs, F::iq2_xs, F::iq3_xxs)) return step % 4 == 0;
    if (isCodeBook(kFormat)) return step == 0;
    if (Traits::kBits == 2) return step < 2;
    if (Traits::kBits == 3) return step < 3;
    if (Traits::kBits == 4 || isUneven(kFormat) || isOneOf(kFormat, F::mxfp4, F::q4_1, F::q5_0, F::q5_1)) return step < 4;
    if (kFormat == F::tq1_0) return j == 0 || (j == 5 && step < 4);
    if (isOneOf(kFormat, F::q2_k, F::q3_k, F::tq2_0)) return quarter == 0;
    return kFormat == F::q6_k ? quarter < 3 : Traits::kBits == 8 || j % 2 == 0;
  }

 private:
  static MILLRACE_INLINE const int8_t* uneven() { return kSignedWide ? kUnevenLevels : reinterpret_cast<const int8_t*>(kUnevenLifted); }

  // The steps of code books shift by constants.
  template <int kStep>
  MILLRACE_INLINE Bytes codeBook(int step, int lane) const {
    if constexpr (kStep < 7) {
      if (step != kStep) return codeBook<kStep + 1>(step, lane);
    }
    return codeBookLevels<kFormat, j, kStep>(*this, lane);
  }

  // Of Q2_K: four bits of the byte of a half of the group.
  template <int kMask, int kShift>
  MILLRACE_INLINE VecI scaleAndMinimum(int part, int lane) const { return andInt(shiftRightSigned<kShift>(widenBytes(bytes<2>(2 * j + part, lane))), set1Int(kMask)); }

  MILLRACE_INLINE Bytes ternary(int step, int lane) const {
    constexpr int powers[5] = {1, 3, 9, 27, 81};
    if constexpr (j < 5) return ternaryDigits<powers[j]>(words<1>(step, lane));
    else {
      constexpr int first = powers[2 * (j - 5)], second = powers[j < 7 ? 2 * (j - 5) + 1 : 0];
      if (step < 4) return ternaryDigits<first>(words<1>(8 + step, lane));
      if (j < 7) return ternaryDigits<second>(words<1>(4 + step, lane));
      const Bytes last = words<2>(0, lane);
      return step == 4 ? ternaryDigits<1>(last) : step == 5 ? ternaryDigits<3>(last) : step == 6 ? ternaryDigits<9>(last) : ternaryDigits<27>(last);
    }
  }
};

}  // namespace
}  // namespace millrace::cpu::MILLRACE_ISA
