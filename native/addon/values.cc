#include "values.h"

#include <cmath>
#include <cstring>

namespace millrace::addon {
namespace {

[[noreturn]] void wrong(const char* what, const char* expected) {
  throw Error("INTERNAL", std::string("The native addon was given a wrong ") + what + ": expected " + expected + ".");
}

napi_valuetype typeOf(napi_env env, napi_value value) {
  napi_valuetype type;
  check(env, napi_typeof(env, value, &type));
  return type;
}

template <class T>
Span<T> readTyped(napi_env env, napi_value value, napi_typedarray_type wanted, const char* what, const char* expected) {
  bool isTypedArray = false;
  check(env, napi_is_typedarray(env, value, &isTypedArray));
  if (!isTypedArray) wrong(what, expected);
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  check(env, napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr));
  if (type != wanted) wrong(what, expected);
  return Span<T>{static_cast<const T*>(data), static_cast<int64_t>(length)};
}

void deleteFloats(napi_env, void* data, void*) { delete[] static_cast<float*>(data); }

}  // namespace

void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  throw Error("INTERNAL", std::string("Node-API: ") + (info != nullptr && info->error_message != nullptr ? info->error_message : "unknown failure"));
}

napi_value makeError(napi_env env, const char* code, const char* message) {
  napi_value error = nullptr;
  check(env, napi_create_error(env, makeString(env, code), makeString(env, message), &error));
  return error;
}

void throwInJavaScript(napi_env env, const char* code, const char* message) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) napi_throw_error(env, code, message);
}

double readNumber(napi_env env, napi_value value, const char* what) {
  double number = 0;
  if (napi_get_value_double(env, value, &number) != napi_ok) wrong(what, "a number");
  return number;
}

int32_t readInt(napi_env env, napi_value value, const char* what) {
  const double number = readNumber(env, value, what);
  if (!(number >= INT32_MIN && number <= INT32_MAX) || std::floor(number) != number) wrong(what, "a 32-bit integer");
  return static_cast<int32_t>(number);
}

int64_t readSize(napi_env env, napi_value value, const char* what) {
  const double number = readNumber(env, value, what);
  if (!(number >= 0 && number <= 9007199254740992.0) || std::floor(number) != number) wrong(what, "a size");
  return static_cast<int64_t>(number);
}

bool readBool(napi_env env, napi_value value, const char* what) {
  bool flag = false;
  if (napi_get_value_bool(env, value, &flag) != napi_ok) wrong(what, "a boolean");
  return flag;
}

std::string readString(napi_env env, napi_value value, const char* what) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) wrong(what, "a string");
  std::string text(length + 1, '\0');
  check(env, napi_get_value_string_utf8(env, value, &text[0], text.size(), &length));
  text.resize(length);
  return text;
}

bool isNothing(napi_env env, napi_value value) {
  const napi_valuetype type = typeOf(env, value);
  return type == napi_undefined || type == napi_null;
}

napi_value property(napi_env env, napi_value object, const char* name) {
  if (typeOf(env, object) != napi_object) wrong(name, "an object that has it");
  napi_value value = nullptr;
  check(env, napi_get_named_property(env, object, name, &value));
  return value;
}

uint32_t arrayLength(napi_env env, napi_value array, const char* what) {
  bool isArray = false;
  check(env, napi_is_array(env, array, &isArray));
  if (!isArray) wrong(what, "an array");
  uint32_t length = 0;
  check(env, napi_get_array_length(env, array, &length));
  return length;
}

napi_value element(napi_env env, napi_value array, uint32_t index) {
  napi_value value = nullptr;
  check(env, napi_get_element(env, array, index, &value));
  return value;
}

Span<int32_t> readInt32s(napi_env env, napi_value value, const char* what) { return readTyped<int32_t>(env, value, napi_int32_array, what, "an Int32Array"); }
Span<uint32_t> readUint32s(napi_env env, napi_value value, const char* what) { return readTyped<uint32_t>(env, value, napi_uint32_array, what, "a Uint32Array"); }
Span<float> readFloats(napi_env env, napi_value value, const char* what) { return readTyped<float>(env, value, napi_float32_array, what, "a Float32Array"); }
Span<uint8_t> readBytes(napi_env env, napi_value value, const char* what) { return readTyped<uint8_t>(env, value, napi_uint8_array, what, "a Uint8Array"); }

napi_value makeObject(napi_env env) {
  napi_value object = nullptr;
  check(env, napi_create_object(env, &object));
  return object;
}

napi_value makeNumber(napi_env env, double value) {
  napi_value number = nullptr;
  check(env, napi_create_double(env, value, &number));
  return number;
}

napi_value makeString(napi_env env, const std::string& value) {
  napi_value text = nullptr;
  check(env, napi_create_string_utf8(env, value.data(), value.size(), &text));
  return text;
}

napi_value makeStrings(napi_env env, const std::vector<std::string>& values) {
  napi_value array = nullptr;
  check(env, napi_create_array_with_length(env, values.size(), &array));
  for (size_t i = 0; i < values.size(); i++) check(env, napi_set_element(env, array, static_cast<uint32_t>(i), makeString(env, values[i])));
  return array;
}

void setProperty(napi_env env, napi_value object, const char* name, napi_value value) { check(env, napi_set_named_property(env, object, name, value)); }

napi_value makeTypedArray(napi_env env, napi_typedarray_type type, const void* data, size_t length, size_t elementBytes) {
  napi_value buffer = nullptr, array = nullptr;
  void* memory = nullptr;
  check(env, napi_create_arraybuffer(env, length * elementBytes, &memory, &buffer));
  if (length > 0) std::memcpy(memory, data, length * elementBytes);
  check(env, napi_create_typedarray(env, type, length, buffer, 0, &array));
  return array;
}

napi_value makeFloats(napi_env env, Output output) {
  napi_value buffer = nullptr, array = nullptr;
  const napi_status status = napi_create_external_arraybuffer(env, output.data.get(), output.length * sizeof(float), deleteFloats, nullptr, &buffer);
  if (status == napi_no_external_buffers_allowed) return makeTypedArray(env, napi_float32_array, output.data.get(), output.length, sizeof(float));
  check(env, status);
  output.data.release();
  check(env, napi_create_typedarray(env, napi_float32_array, output.length, buffer, 0, &array));
  return array;
}

}  // namespace millrace::addon
