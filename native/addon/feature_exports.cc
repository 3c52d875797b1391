// What the processor runs: an export of the CPU addon alone.
#include "../cpu/cpu_features.h"
#include "exports.h"

namespace millrace::addon {

// () -> { best, runs, compiled }: instruction-set classes, weakest first; `runs`: compiled or not.
napi_value cpuFeatures(napi_env env, napi_callback_info info) {
  return guarded(env, info, 0, [](napi_env env, napi_value*) {
    std::vector<std::string> compiled;
    for (const cpu::Isa isa : cpu::compiledIsas()) compiled.push_back(cpu::isaName(isa));
    std::vector<std::string> runs;
    for (const cpu::Isa isa : cpu::runnableIsas()) runs.push_back(cpu::isaName(isa));
    napi_value result = makeObject(env);
    setProperty(env, result, "best", makeString(env, cpu::isaName(cpu::bestIsa())));
    setProperty(env, result, "runs", makeStrings(env, runs));
    setProperty(env, result, "compiled", makeStrings(env, compiled));
    return result;
  });
}

}  // namespace millrace::addon
