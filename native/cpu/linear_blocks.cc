// A row of stored blocks of any format as f32: what embeddings and conversions read (block_formats.h).
#include "block_formats.h"
#include "linear.h"

namespace millrace::cpu::MILLRACE_ISA {
namespace {

struct UnpackRow {
  const uint8_t* row;
  int32_t k;
  float* out;
  template <WeightFormat kFormat>
  void run() {
    for (int g = 0; g < k / 32; g++) readValues<kFormat>(row, g, out + g * 32);
  }
};

}  // namespace

void unpackBlockRow(WeightFormat format, const uint8_t* row, int32_t k, float* out) { withBlockFormat(format, UnpackRow{row, k, out}); }

}  // namespace millrace::cpu::MILLRACE_ISA
