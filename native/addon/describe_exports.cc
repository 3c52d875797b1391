// What a plan would run as, without its weights.
#include "exports.h"

namespace millrace::addon {

// (device, encodedPlan, maxTokens, maxLogitRows) -> { arenaBytes, kernels }
napi_value describePlan(napi_env env, napi_callback_info info) {
  return guarded(env, info, 4, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    const Span<int32_t> words = readInt32s(env, arguments[1], "plan");
    Plan plan = decodePlan(words.data, static_cast<size_t>(words.length));
    const int32_t maxTokens = readInt(env, arguments[2], "maxTokens"), maxLogitRows = readInt(env, arguments[3], "maxLogitRows");
    const ProgramDescription description = worker->device().describe(std::move(plan), maxTokens, maxLogitRows);
    napi_value result = makeObject(env);
    setProperty(env, result, "arenaBytes", makeNumber(env, static_cast<double>(description.arenaBytes)));
    setProperty(env, result, "kernels", makeStrings(env, description.kernels));
    return result;
  });
}

}  // namespace millrace::addon
