// A weight as it lies in files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "mapped_file.h"
#include "weight_formats.h"

namespace millrace {

// A stored tensor that makes up some rows of a weight.
struct WeightPart {
  std::shared_ptr<MappedFile> file;  // or null: bytes in memory
  const uint8_t* bytes = nullptr;    // first byte of the tensor
  size_t offset = 0;                 // of the tensor in `file`
  size_t sizeBytes = 0;
  WeightFormat format = WeightFormat::f32;
  int32_t rows = 0;                  // elements, for a vector
  int32_t ropeHeadDim = 0;           // not 0: rows are stored with rotary pairs interleaved (src/weights/weight-source.ts)
  float shift = 0;                   // added to each element
};

}  // namespace millrace
