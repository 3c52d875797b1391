// What a plan would run as, without its weights.
#include "exports.h"

namespace millrace::addon {

// (device, encodedPlan, maxTokens, maxLogitRows) -> { arenaBytes, kernels }
napi_value describePlan(napi_env env, napi_callback_info info) {
  return guarded(env, info, 4, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    const Span<int32_t> words = readInt32s(env, arguments[1], "plan");
    Plan plan = decodePlan(words.data, static_cast<size_t>(words.length));
    std::vector<std::shared_ptr<backend::Weight>> weights;
    for (const PlanWeight& shape : plan.weights) weights.push_back(std::make_shared<backend::Weight>(shape));
    const int32_t maxTokens = readInt(env, arguments[2], "maxTokens"), maxLogitRows = readInt(env, arguments[3], "maxLogitRows");
    const std::shared_ptr<backend::Program> program = worker->device().makeProgram(std::move(plan), std::move(weights), maxTokens, maxLogitRows);
    napi_value result = makeObject(env);
    setProperty(env, result, "arenaBytes", makeNumber(env, static_cast<double>(program->arenaBytes())));
    setProperty(env, result, "kernels", makeStrings(env, program->kernelNames()));
    return result;
  });
}

}  // namespace millrace::addon
