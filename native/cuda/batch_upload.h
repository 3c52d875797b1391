// The arrays of a step on the device: gathered in pinned memory, brought over in one copy.
#pragma once

#include <cstring>
#include <vector>

#include "runtime.h"

namespace millrace::cuda {

class BatchUpload {
 public:
  // `host` is what the arrays are gathered in: it must stay as it is until the copy is done, so each step in flight has its own.
  void begin(PinnedBuffer& host) {
    host_ = &host;
    used_ = 0;
  }

  // Notes an array to be uploaded; at(...) says where it will be. Returns its place.
  template <class T>
  size_t add(const T* values, int64_t count) {
    const size_t place = used_, bytes = static_cast<size_t>(count) * sizeof(T);
    used_ += (bytes + kAlign - 1) / kAlign * kAlign;
    reserve(used_);
    if (bytes > 0) std::memcpy(host_->data() + place, values, bytes);
    return place;
  }

  // After all have been added. Arrays of the same sizes come to the same places each time.
  void send(const Stream& stream) {
    if (device_.size() < used_) device_ = Buffer(used_ * 2 < kFirstBytes ? kFirstBytes : used_ * 2, "the batch of a step");
    if (used_ > 0) stream.upload(device_.data(), host_->data(), used_);
  }

  const int32_t* at(size_t place) const { return at<int32_t>(place); }
  template <class T>
  const T* at(size_t place) const {
    return reinterpret_cast<const T*>(device_.data() + place);
  }
  template <class T>
  T* mutableAt(size_t place) const {
    return reinterpret_cast<T*>(device_.data() + place);
  }

 private:
  static constexpr size_t kAlign = 128, kFirstBytes = size_t{1} << 16;

  void reserve(size_t bytes) {
    if (host_->size() >= bytes) return;
    PinnedBuffer larger(bytes * 2 < kFirstBytes ? kFirstBytes : bytes * 2);
    if (host_->size() > 0) std::memcpy(larger.data(), host_->data(), host_->size());
    *host_ = std::move(larger);
  }

  PinnedBuffer* host_ = nullptr;
  Buffer device_;
  size_t used_ = 0;
};

}  // namespace millrace::cuda
