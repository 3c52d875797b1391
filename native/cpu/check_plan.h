// The rules of src/plan/ops that keep a kernel inside its memory, checked once more where the plan arrives: a damaged or hostile buffer becomes an
// error.
#pragma once

#include "../common/plan.h"

namespace millrace::cpu {

// Most outputs that an expert-linear divides its rows among.
constexpr int kMaxExpertOutputs = 4;


// Throws PLAN_INVALID naming the first node that breaks a rule.
void checkPlan(const Plan& plan);

}  // namespace millrace::cpu
