// Numbers and words of the plan that every device must keep to.
#pragma once

#include <cstdint>

namespace millrace {

// Activation roundings in the order of ops/linear.ts.
enum class Activation : int32_t { f32 = 0, bf16 = 1, int8Group32 = 2, int8Token = 3 };
// In the order of kvDtypes in src/kv/layout.ts.
enum class KvDtype : int32_t { f32 = 0, f16 = 1, bf16 = 2, int8 = 3, fp8 = 4, int4 = 5 };

// Parts of the reproducibility contract; equal to LINEAR_SEGMENT and ATTENTION_SPLIT in src/plan/ops.
constexpr int kLinearSegment = 1024;
constexpr int kAttentionSplit = 256;

// Largest head size that rope and the KV cache take; programs and caches with larger ones are refused.
constexpr int kMaxHeadDim = 1024;

}  // namespace millrace
