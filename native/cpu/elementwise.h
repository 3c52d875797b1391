// The element-wise ops and norms of one instruction set (elementwise.cc), with the signatures of the kernel table. Meaning: src/plan/ops.
#pragma once

#include "kernels.h"

namespace millrace::cpu::MILLRACE_ISA {

// y = x / rms(x) * (weight + weightOffset), rms over each run of groupWidth elements.
void rmsNorm(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset, float epsilon, ThreadPool&);
// sum = a + b; normed = rmsNorm(sum).
void addRmsNorm(ConstRows a, ConstRows b, Rows sum, Rows normed, int32_t rows, int32_t width, int32_t groupWidth, const float* weight, float weightOffset,
                float epsilon, ThreadPool&);
void add(ConstRows a, ConstRows b, Rows y, int32_t rows, int32_t width, ThreadPool&);
void scale(ConstRows x, Rows y, int32_t rows, int32_t width, float factor, ThreadPool&);
void softCap(ConstRows x, Rows y, int32_t rows, int32_t width, float cap, ThreadPool&);
// y = function(gate) * up; function: 0 silu, 1 gelu-tanh, 2 gelu.
void gatedActivation(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, int32_t function, ThreadPool&);

// y = function(x); 3: relu.
void activation(ConstRows x, Rows y, int32_t rows, int32_t width, int32_t function, ThreadPool&);
// y = g * sigmoid(alpha * g) * (u + 1), g = min(gate, limit), u = up within [-limit, limit].
void clampedSwiglu(ConstRows gate, ConstRows up, Rows y, int32_t rows, int32_t width, float alpha, float limit, ThreadPool&);
// out = sum over slots of weights * y, from slot 0 on; y is [rows, slots * width].
void expertCombine(ConstRows y, ConstRows weights, Rows out, int32_t rows, int32_t width, int32_t slots, ThreadPool&);
// y = (x - mean) / sqrt(variance + epsilon) * weight + bias; bias may be null.
void layerNorm(ConstRows x, Rows y, int32_t rows, int32_t width, const float* weight, const float* bias, float epsilon, ThreadPool&);

}  // namespace millrace::cpu::MILLRACE_ISA
