// The functions of `linear` that kernel_table.cc collects, with the table's signatures.
#pragma once

#include "kernels.h"

namespace millrace::cpu::MILLRACE_ISA {

size_t packedBytes(WeightFormat format, int32_t n, int32_t k);
void packRows(PackedMatrix* w, int32_t rowBegin, int32_t numRows, const uint8_t* source);
void unpackRow(const PackedMatrix& w, int32_t row, float* out);
size_t linearScratchBytes(int32_t maxRows, int32_t k);
void linear(const LinearArgs&, ThreadPool&);
void headLinear(const LinearArgs&, int32_t numHeads, ThreadPool&);
const char* linearName(WeightFormat format, Activation activation);
bool linearSupports(WeightFormat format, Activation activation);
size_t expertScratchBytes(int32_t maxRows, int32_t slots, int32_t k, int32_t experts);
size_t expertTileBytes(WeightFormat format, int32_t k);
void expertLinear(const ExpertLinearArgs&, ThreadPool&);

}  // namespace millrace::cpu::MILLRACE_ISA
