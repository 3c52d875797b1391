#include "exports.h"

namespace millrace::addon {

// (isa, numThreads) -> { device, isa, numThreads, memoryBytes }. An empty isa means the best there is; no memoryBytes: those of the machine.
napi_value createDevice(napi_env env, napi_callback_info info) {
  return guarded(env, info, 2, [](napi_env env, napi_value* arguments) {
    const std::string isa = readString(env, arguments[0], "isa");
    const std::shared_ptr<Worker> worker = Worker::start(env, isa, readInt(env, arguments[1], "numThreads"));
    napi_value result = makeObject(env);
    setProperty(env, result, "isa", makeString(env, worker->device().isa()));
    setProperty(env, result, "numThreads", makeNumber(env, worker->device().numThreads()));
    setProperty(env, result, "memoryBytes", makeNumber(env, static_cast<double>(worker->device().memoryBytes())));
    setProperty(env, result, "device", makeHandle(env, worker));
    return result;
  });
}

// (device) -> { linearRowClass: [4], linearSegments, attentionSplits }
napi_value readCounters(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) {
    const Counters& counters = readHandle<Worker>(env, arguments[0])->device().counters();
    double classes[4];
    for (int i = 0; i < 4; i++) classes[i] = static_cast<double>(counters.linearRowClass[i]);
    napi_value result = makeObject(env);
    setProperty(env, result, "linearRowClass", makeTypedArray(env, napi_float64_array, classes, 4, sizeof(double)));
    setProperty(env, result, "linearSegments", makeNumber(env, static_cast<double>(counters.linearSegments)));
    setProperty(env, result, "attentionSplits", makeNumber(env, static_cast<double>(counters.attentionSplits)));
    return result;
  });
}

// (device). Between steps only.
napi_value resetCounters(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) -> napi_value {
    readHandle<Worker>(env, arguments[0])->device().counters() = Counters{};
    return nullptr;
  });
}

// (device, on): for tests of the reproducibility tests.
napi_value plantOrderFault(napi_env env, napi_callback_info info) {
  return guarded(env, info, 2, [](napi_env env, napi_value* arguments) -> napi_value {
    readHandle<Worker>(env, arguments[0])->device().plantOrderFault(readBool(env, arguments[1], "on"));
    return nullptr;
  });
}

// (handle): gives up any handle. A device's running job ends at its next node and rejects.
napi_value closeHandle(napi_env env, napi_callback_info info) {
  return guarded(env, info, 1, [](napi_env env, napi_value* arguments) -> napi_value {
    napi_value handle = arguments[0];
    if (unwrap(env, handle, HandleType<Worker>::tag) != nullptr) {
      Box* box = unwrap(env, handle, HandleType<Worker>::tag);
      const std::shared_ptr<Worker> worker = static_cast<TypedBox<Worker>*>(box)->object();
      if (worker != nullptr) worker->shutDown();
      box->close();
      return nullptr;
    }
    const bool closed = closeIfHandle<MappedFile>(env, handle) || closeIfHandle<backend::Weight>(env, handle) || closeIfHandle<backend::Program>(env, handle) ||
                        closeIfHandle<backend::Cache>(env, handle);
    if (!closed) throw Error("INTERNAL", "The native addon was given something that is not a handle.");
    return nullptr;
  });
}

}  // namespace millrace::addon
