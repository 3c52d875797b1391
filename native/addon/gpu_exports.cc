// What a GPU has and a CPU does not: exports of the GPU addon alone.
#include "exports.h"

namespace millrace::addon {

// (device, program, cache, numTokens, maxContext) -> promise of the number of recordings of the program
napi_value recordSteps(napi_env env, napi_callback_info info) {
  return guarded(env, info, 5, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    const std::shared_ptr<backend::Program> program = readHandle<backend::Program>(env, arguments[1]);
    const std::shared_ptr<backend::Cache> cache = readHandle<backend::Cache>(env, arguments[2]);
    const int32_t numTokens = readInt(env, arguments[3], "numTokens"), maxContext = readInt(env, arguments[4], "maxContext");
    napi_value kept = nullptr;
    check(env, napi_create_array_with_length(env, 0, &kept));
    return worker->submit(env, kept, [program, cache, numTokens, maxContext](backend::Device& device) -> Worker::Result {
      const int32_t count = device.recordSteps(program, cache, numTokens, maxContext);
      return [count](napi_env env) { return makeNumber(env, count); };
    });
  });
}

// (device) -> steps so far that were a recording
napi_value replayedSteps(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) {
    return makeNumber(env, static_cast<double>(readHandle<Worker>(env, arguments[0])->device().replayedSteps()));
  });
}

}  // namespace millrace::addon
