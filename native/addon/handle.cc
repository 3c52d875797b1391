#include "handle.h"

namespace millrace::addon {
namespace {

void deleteBox(napi_env, void* data, void*) { delete static_cast<Box*>(data); }

}  // namespace

void wrap(napi_env env, napi_value object, Box* box, const napi_type_tag& tag) {
  check(env, napi_type_tag_object(env, object, &tag));
  check(env, napi_wrap(env, object, box, deleteBox, nullptr, nullptr));
}

Box* unwrap(napi_env env, napi_value value, const napi_type_tag& tag) {
  napi_valuetype type;
  bool tagged = false;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object) return nullptr;
  if (napi_check_object_type_tag(env, value, &tag, &tagged) != napi_ok || !tagged) return nullptr;
  void* data = nullptr;
  return napi_unwrap(env, value, &data) == napi_ok ? static_cast<Box*>(data) : nullptr;
}

}  // namespace millrace::addon
