// linear and packing against scalar f64, and bit for bit across row counts and threads.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "../thread_pool.h"
#include "check.h"

namespace millrace::cpu::check {

float bf16Value(uint16_t h) {
  const uint32_t u = static_cast<uint32_t>(h) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
uint16_t bf16Bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  const uint32_t low = u & 0xffffu;
  u >>= 16;
  if (low > 0x8000u || (low == 0x8000u && (u & 1u))) u++;
  return static_cast<uint16_t>(u);
}
float f16Value(uint16_t h) {
  const int exponent = (h >> 10) & 31, fraction = h & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : exponent == 31 ? (fraction ? NAN : INFINITY) : std::ldexp(1024 + fraction, exponent - 25);
  return static_cast<float>(h & 0x8000 ? -magnitude : magnitude);
}
uint16_t f16Bits(float f) {
  const uint16_t sign = std::signbit(f) ? 0x8000 : 0;
  const double m = std::fabs(static_cast<double>(f));
  if (m >= 65520.0) return sign | 0x7c00;
  int exponent = 0;
  std::frexp(m, &exponent);
  const int unit = exponent - 11 < -24 ? -24 : exponent - 11;
  const double steps = std::nearbyint(std::ldexp(m, -unit));
  const int biased = unit + 25;
  const int value = biased <= 1 ? static_cast<int>(steps) : static_cast<int>(steps) - 1024 + (biased << 10);
  return static_cast<uint16_t>(sign | value);
}

extern const char* const kFormats[] = {
#define MILLRACE_FORMAT(name, elements, bytes) #name,
    MILLRACE_WEIGHT_FORMATS(MILLRACE_FORMAT)
#undef MILLRACE_FORMAT
};
extern const char* const kActivations[] = {"f32", "bf16", "int8-group32", "int8-token"};

namespace {

struct Matrix {
  std::vector<uint8_t> source;
  std::vector<float> values;  // [n, k]
};

// Byte offsets of the halves in a block of a format kept as stored; -1 for none.
void halvesOf(WeightFormat format, int (&at)[2]) {
  at[0] = 0, at[1] = -1;
  if (format == WeightFormat::mxfp4 || format == WeightFormat::iq1_m || format >= WeightFormat::int2_g32) at[0] = -1;
  if (format == WeightFormat::tq1_0) at[0] = 52;
  if (format == WeightFormat::tq2_0) at[0] = 64;
  if (format == WeightFormat::q4_1 || format == WeightFormat::q5_1 || format == WeightFormat::q4_k || format == WeightFormat::q5_k) at[1] = 2;
  if (format == WeightFormat::q2_k) at[0] = 80, at[1] = 82;
  if (format == WeightFormat::q3_k) at[0] = 108;
  if (format == WeightFormat::q6_k) at[0] = 208;
}

// Random levels under small scales; what they stand for is asked of the table (the conformance tests hold that against src/quant).
Matrix makeBlocks(const KernelTable& table, WeightFormat format, int n, int k, Random& random) {
  Matrix m;
  m.values.resize(static_cast<size_t>(n) * k);
  m.source.resize(static_cast<size_t>(bytesOf(format, k)) * n);
  for (uint8_t& byte : m.source) byte = static_cast<uint8_t>(random.below(256));
  int at[2];
  halvesOf(format, at);
  for (size_t block = 0; block < m.source.size(); block += blockSize(format).bytes) {
    for (int w = 0; format == WeightFormat::iq1_m && w < 4; w++) {  // a small half in four top nibbles
      uint8_t& byte = m.source[block + 49 + 2 * w];
      byte = static_cast<uint8_t>((byte & 15) | (w == 3 ? 0x20 : byte & 0xf0));
    }
    if (format == WeightFormat::mxfp4) m.source[block] = static_cast<uint8_t>(118 + random.below(6));
    if (format >= WeightFormat::int2_g32) {  // an f32 scale in front; no NaN among fp8 levels
      const float scale = random.normal() * 0.01f;
      const size_t rowBytes = static_cast<size_t>(bytesOf(format, k)), row = block / rowBytes * rowBytes;
      if (format == WeightFormat::int8_channel && block != row) std::memcpy(m.source.data() + block, m.source.data() + row, 4);
      else std::memcpy(m.source.data() + block, &scale, 4);
      for (int i = 4; i < blockSize(format).bytes && hasFloatLevels(format); i++) m.source[block + i] &= 0xbf;
    }
    for (int offset : at) {
      const uint16_t half = f16Bits(random.normal() * 0.01f);
      if (offset >= 0) std::memcpy(m.source.data() + block + offset, &half, 2);
    }
  }
  Buffer packed(table.packedBytes(format, n, k));
  PackedMatrix weight{format, n, k, packed.data()};
  table.packRows(&weight, 0, n, m.source.data());
  for (int r = 0; r < n; r++) table.unpackRow(weight, r, m.values.data() + static_cast<size_t>(r) * k);
  return m;
}

Matrix makeMatrix(WeightFormat format, int n, int k, Random& random) {
  Matrix m;
  m.values.resize(static_cast<size_t>(n) * k);
  const size_t rowBytes = static_cast<size_t>(bytesOf(format, k));
  m.source.resize(rowBytes * n);
  for (int r = 0; r < n; r++) {
    uint8_t* row = m.source.data() + r * rowBytes;
    for (int c = 0; c < k; c++) {
      float& value = m.values[static_cast<size_t>(r) * k + c];
      value = random.normal() * 0.05f;
      if (format == WeightFormat::f32) std::memcpy(row + c * 4, &value, 4);
      if (format == WeightFormat::f16 || format == WeightFormat::bf16) {
        const uint16_t h = format == WeightFormat::f16 ? f16Bits(value) : bf16Bits(value);
        std::memcpy(row + c * 2, &h, 2);
        value = format == WeightFormat::f16 ? f16Value(h) : bf16Value(h);
      }
      if (format == WeightFormat::q4_0) {
        uint8_t* block = row + c / 32 * 18;
        const uint16_t scale = f16Bits((c / 32 % 2 ? -0.01f : 0.01f) + 0.0001f * static_cast<float>((r + c / 32) % 7));
        const int nibble = random.below(16);
        std::memcpy(block, &scale, 2);
        block[2 + c % 16] = static_cast<uint8_t>(c % 32 < 16 ? nibble : block[2 + c % 16] | nibble << 4);
        value = f16Value(scale) * static_cast<float>(nibble - 8);
      }
      if (format == WeightFormat::q8_0) {
        uint8_t* block = row + c / 32 * 34;
        const uint16_t scale = f16Bits(0.001f + 0.0001f * static_cast<float>((r + c / 32) % 7));
        const int8_t q = random.below(50) == 0 ? -128 : static_cast<int8_t>(random.below(255) - 127);
        std::memcpy(block, &scale, 2);
        std::memcpy(block + 2 + c % 32, &q, 1);
        value = f16Value(scale) * static_cast<float>(q);
      }
    }
  }
  return m;
}

void roundRow(const float* x, int k, Activation activation, double* out) {
  const int run = activation == Activation::int8Token ? k : 32;
  for (int begin = 0; begin < k; begin += run) {
    const int end = begin + run < k ? begin + run : k;
    float largest = 0;
    for (int i = begin; i < end; i++) largest = std::fmax(largest, std::fabs(x[i]));
    const float scale = largest / 127.0f, inverse = largest > 4e-37f ? 127.0f / largest : 0.0f;
    for (int i = begin; i < end; i++) {
      if (activation == Activation::f32) out[i] = x[i];
      else if (activation == Activation::bf16) out[i] = bf16Value(bf16Bits(x[i]));
      else out[i] = static_cast<double>(scale) * std::nearbyint(x[i] * inverse);
    }
  }
}

struct Shape {
  int rows, n, k;
  bool bias;
};

void runLinear(const KernelTable& table, const LinearArgs& base, const float* x, float* y, int rows, ThreadPool& pool) {
  LinearArgs args = base;
  args.x.data = x;
  args.y.data = y;
  args.rows = rows;
  runKernel("linear", [&] { table.linear(args, pool); });
}

void checkCase(const KernelTable& table, WeightFormat format, Activation activation, const Shape& shape, ThreadPool& one, ThreadPool& two) {
  const auto [rows, n, k, hasBias] = shape;
  if (std::getenv("QUICK") != nullptr && rows * n * k > 200'000) return;
  const std::string where = std::string(table.isa) + " " + kFormats[int(format)] + " by " + kActivations[int(activation)] + " rows " + std::to_string(rows) +
                            " n " + std::to_string(n) + " k " + std::to_string(k);
  Random random(static_cast<uint64_t>(n * 7919 + k * 31 + rows));
  const Matrix matrix = format > WeightFormat::q4_0 ? makeBlocks(table, format, n, k, random) : makeMatrix(format, n, k, random);
  Buffer packed(table.packedBytes(format, n, k)), scratch(table.linearScratchBytes(rows, k));
  PackedMatrix weight{format, n, k, packed.data()};
  const size_t rowBytes = matrix.source.size() / n;
  const int cut = n > 100 ? 71 : 0;  // parts that do not start at a tile, as concatenated projections do
  if (cut) table.packRows(&weight, 0, cut, matrix.source.data());
  table.packRows(&weight, cut, n - cut, matrix.source.data() + cut * rowBytes);

  std::vector<float> row(k);
  for (int r : {0, n / 2, n - 1}) {
    table.unpackRow(weight, r, row.data());
    expect(std::memcmp(row.data(), matrix.values.data() + static_cast<size_t>(r) * k, k * 4) == 0, "unpackRow", where);
  }

  const int xStride = k + 3, yStride = n + 5;
  std::vector<float> x(static_cast<size_t>(rows) * xStride), y(static_cast<size_t>(rows) * yStride, 777.0f), again(y), bias(n);
  for (float& v : x) v = random.normal() * (random.below(300) == 0 ? 50.0f : 1.0f);
  for (float& v : bias) v = random.normal();
  Counters counters;
  const LinearArgs base{{nullptr, xStride}, {nullptr, yStride}, 0, &weight, hasBias ? bias.data() : nullptr, activation, scratch.data(), &counters, false};
  runLinear(table, base, x.data(), y.data(), rows, one);
  runLinear(table, base, x.data(), again.data(), rows, two);
  expect(std::memcmp(y.data(), again.data(), y.size() * 4) == 0, "threads", where);

  std::vector<double> rounded(k);
  double worst = 0;
  for (int t = 0; t < rows; t += rows > 20 ? 13 : 1) {
    roundRow(x.data() + static_cast<size_t>(t) * xStride, k, activation, rounded.data());
    for (int o = 0; o < n; o++) {
      double sum = hasBias ? bias[o] : 0.0, size = 1e-9 + std::fabs(sum);
      for (int i = 0; i < k; i++) {
        const double product = rounded[i] * matrix.values[static_cast<size_t>(o) * k + i];
        sum += product, size += std::fabs(product);
      }
      const double error = std::fabs(sum - y[static_cast<size_t>(t) * yStride + o]) / size;
      worst = error > worst || std::isnan(error) ? error : worst;
    }
    for (int o = n; o < yStride; o++) expect(y[static_cast<size_t>(t) * yStride + o] == 777.0f, "writes past n", where);
  }
  expect(worst < 2e-6, "error", where + ": " + std::to_string(worst * 1e6) + "e-6");

  // Any run of rows alone gives the same bits.
  for (int begin = 0, count = 1; begin < rows; begin += count, count = count % 9 + 1) {
    const int some = begin + count < rows ? count : rows - begin;
    std::fill(again.begin(), again.end(), 777.0f);
    runLinear(table, base, x.data() + static_cast<size_t>(begin) * xStride, again.data(), some, two);
    for (int t = 0; t < some; t++)
      expect(std::memcmp(again.data() + static_cast<size_t>(t) * yStride, y.data() + static_cast<size_t>(begin + t) * yStride, n * 4) == 0, "row count", where);
  }
  if (rows > 64 && k > 1024) {
    LinearArgs faulty = base;
    faulty.plantedOrderFault = true;
    runLinear(table, faulty, x.data(), again.data(), rows, one);
    expect(std::memcmp(y.data(), again.data(), y.size() * 4) != 0, "planted fault shows", where);
  }
}

}  // namespace

void checkLinear(const KernelTable& table) {
  WorkerPool one(1), two(2);
  const Shape shapes[] = {{1, 1, 32, true}, {2, 63, 64, false}, {3, 65, 96, true}, {5, 130, 1056, true}, {8, 17, 2080, false}, {9, 200, 224, true},
                          {64, 70, 1024, false}, {65, 129, 1120, true}, {70, 96, 2144, true}, {300, 257, 1088, true}};
  const Shape oddShapes[] = {{1, 5, 1, true}, {4, 33, 7, false}, {7, 71, 1027, true}, {71, 67, 1025, true}, {10, 3, 333, false}};
  const Shape blockShapes[] = {{1, 1, 256, true}, {3, 65, 512, true}, {9, 63, 1280, false}, {64, 70, 1024, false}, {65, 129, 2304, true}, {100, 80, 1536, true}};
  for (int f = 4; f < static_cast<int>(WeightFormat::count); f++)
    for (int a = 0; a < 4; a++)
      for (const Shape& shape : blockShapes) checkCase(table, WeightFormat(f), Activation(a), shape, one, two);
  for (int a = 0; a < 4; a++)
    for (const Shape& shape : shapes) checkCase(table, WeightFormat::q4_0, Activation(a), shape, one, two);
  for (int f = 0; f < 4; f++) {
    for (int a = 0; a < 4; a++) {
      for (const Shape& shape : shapes) checkCase(table, WeightFormat(f), Activation(a), shape, one, two);
      if (f != 3 && a != 2)
        for (const Shape& shape : oddShapes) checkCase(table, WeightFormat(f), Activation(a), shape, one, two);
    }
  }
}

}  // namespace millrace::cpu::check
