// Native objects as JavaScript sees them: an empty object that owns a share of one, tagged with its type so that no other object passes for it.
// close() gives the share up at once; the garbage collector does it otherwise.
#pragma once

#include "values.h"

namespace millrace::addon {

class Box {
 public:
  virtual ~Box() = default;
  virtual void close() = 0;
};

template <class T>
class TypedBox final : public Box {
 public:
  explicit TypedBox(std::shared_ptr<T> object) : object_(std::move(object)) {}
  void close() override { object_.reset(); }
  const std::shared_ptr<T>& object() const { return object_; }

 private:
  std::shared_ptr<T> object_;
};

// Specialised for each type that has handles: a tag, and a name for messages.
template <class T>
struct HandleType;

void wrap(napi_env env, napi_value object, Box* box, const napi_type_tag& tag);
// Null when the value is not a handle with that tag.
Box* unwrap(napi_env env, napi_value value, const napi_type_tag& tag);

template <class T>
napi_value makeHandle(napi_env env, std::shared_ptr<T> object) {
  napi_value handle = makeObject(env);
  std::unique_ptr<Box> box = std::make_unique<TypedBox<T>>(std::move(object));
  wrap(env, handle, box.get(), HandleType<T>::tag);
  box.release();
  return handle;
}

template <class T>
std::shared_ptr<T> readHandle(napi_env env, napi_value value) {
  Box* box = unwrap(env, value, HandleType<T>::tag);
  if (box == nullptr) throw Error("INTERNAL", std::string("The native addon was given something that is not a ") + HandleType<T>::name + ".");
  const std::shared_ptr<T>& object = static_cast<TypedBox<T>*>(box)->object();
  if (object == nullptr) throw Error("ENGINE_CLOSED", std::string("The ") + HandleType<T>::name + " is closed.");
  return object;
}

template <class T>
bool closeIfHandle(napi_env env, napi_value value) {
  Box* box = unwrap(env, value, HandleType<T>::tag);
  if (box != nullptr) box->close();
  return box != nullptr;
}

}  // namespace millrace::addon
