// What the machine allows, for `millrace bench kernels`, and the places of the threads on it.
#include "../cpu/limits.h"
#include "exports.h"

namespace millrace::addon {

// (device, MiB of a region, regions) -> promise of { readBytesPerSecond: [regions], int8, bf16, f32 }: operations a second, 0 without the instruction
napi_value measureLimits(napi_env env, napi_callback_info info) {
  return guarded(env, info, 3, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    const int32_t mebibytes = readInt(env, arguments[1], "MiB of a region"), regions = readInt(env, arguments[2], "regions");
    require(mebibytes >= 1 && mebibytes <= 4096 && regions >= 1 && regions <= 64, "CONFIG_INVALID", "Regions to read must be 1 to 64, of 1 to 4096 MiB.");
    napi_value kept = nullptr;
    check(env, napi_create_array_with_length(env, 0, &kept));
    return worker->submit(env, kept, [mebibytes, regions](backend::Device& device) -> Worker::Result {
      const cpu::Limits limits = device.measureLimits(static_cast<size_t>(mebibytes) << 20, regions);
      return [limits](napi_env env) {
        napi_value result = makeObject(env);
        const std::vector<double>& reads = limits.readBytesPerSecond;
        setProperty(env, result, "readBytesPerSecond", makeTypedArray(env, napi_float64_array, reads.data(), reads.size(), sizeof(double)));
        setProperty(env, result, "int8", makeNumber(env, limits.int8OperationsPerSecond));
        setProperty(env, result, "bf16", makeNumber(env, limits.bf16OperationsPerSecond));
        setProperty(env, result, "f32", makeNumber(env, limits.f32OperationsPerSecond));
        return result;
      };
    });
  });
}

// (device) -> promise of whether each computing thread has a processor of its own from now on
napi_value pinThreads(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) {
    const std::shared_ptr<Worker> worker = readHandle<Worker>(env, arguments[0]);
    napi_value kept = nullptr;
    check(env, napi_create_array_with_length(env, 0, &kept));
    return worker->submit(env, kept, [](backend::Device& device) -> Worker::Result {
      const bool pinned = device.pinThreads();
      return [pinned](napi_env env) {
        napi_value result = nullptr;
        check(env, napi_get_boolean(env, pinned, &result));
        return result;
      };
    });
  });
}

}  // namespace millrace::addon
