// Between JavaScript values and C++ ones. Every reader checks what it is given and throws Error INTERNAL naming it; guarded() turns errors into JavaScript
// exceptions with a `code`, so that nothing that a caller passes can crash the process.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../common/error.h"
#include "../common/step.h"

namespace millrace::addon {

void check(napi_env env, napi_status status);
// Throws the error in JavaScript, unless an exception is pending already.
void throwInJavaScript(napi_env env, const char* code, const char* message);
napi_value makeError(napi_env env, const char* code, const char* message);

// Runs f(env, arguments) for an exported function of `count` parameters.
template <class F>
napi_value guarded(napi_env env, napi_callback_info info, size_t count, F f) {
  try {
    napi_value values[8];
    size_t given = 8;
    check(env, napi_get_cb_info(env, info, &given, values, nullptr, nullptr));
    if (given < count) throw Error("INTERNAL", "The native addon was called with too few arguments.");
    return f(env, values);
  } catch (const Error& error) {
    throwInJavaScript(env, error.code(), error.what());
  } catch (const std::bad_alloc&) {
    throwInJavaScript(env, "MEMORY_INSUFFICIENT", "The process is out of memory.");
  } catch (const std::exception& error) {
    throwInJavaScript(env, "INTERNAL", error.what());
  }
  return nullptr;
}

// Readers. `what` names the value in messages.
double readNumber(napi_env env, napi_value value, const char* what);
int32_t readInt(napi_env env, napi_value value, const char* what);
int64_t readSize(napi_env env, napi_value value, const char* what);  // 0 to 2^53
bool readBool(napi_env env, napi_value value, const char* what);
std::string readString(napi_env env, napi_value value, const char* what);
bool isNothing(napi_env env, napi_value value);  // undefined or null
napi_value property(napi_env env, napi_value object, const char* name);
uint32_t arrayLength(napi_env env, napi_value array, const char* what);
napi_value element(napi_env env, napi_value array, uint32_t index);

// Typed arrays, whose memory stays where it is while something refers to them.
Span<int32_t> readInt32s(napi_env env, napi_value value, const char* what);
Span<uint32_t> readUint32s(napi_env env, napi_value value, const char* what);
Span<float> readFloats(napi_env env, napi_value value, const char* what);
Span<uint8_t> readBytes(napi_env env, napi_value value, const char* what);

// Writers.
napi_value makeObject(napi_env env);
napi_value makeNumber(napi_env env, double value);
napi_value makeString(napi_env env, const std::string& value);
napi_value makeStrings(napi_env env, const std::vector<std::string>& values);
void setProperty(napi_env env, napi_value object, const char* name, napi_value value);
napi_value makeTypedArray(napi_env env, napi_typedarray_type type, const void* data, size_t length, size_t elementBytes);
// Hands the memory over without a copy where the runtime allows it.
napi_value makeFloats(napi_env env, Output output);

}  // namespace millrace::addon
