// What steps in flight need for themselves, a few of each, taken in turn and given back when their results have been read.
#pragma once

#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>

namespace millrace::cuda {

constexpr size_t kMostInFlight = 3;

template <class Slot>
class SlotRing {
 public:
  // Waits until one is free. It is given back when the last share is gone, on whatever thread.
  std::shared_ptr<Slot> take() {
    std::unique_lock<std::mutex> lock(mutex_);
    size_t i = 0;
    freed_.wait(lock, [&] {
      for (i = 0; i < kMostInFlight && isTaken_[i]; i++) continue;
      return i < kMostInFlight;
    });
    isTaken_[i] = true;
    return std::shared_ptr<Slot>(&slots_[i], [this, i](Slot*) {
      const std::lock_guard<std::mutex> guard(mutex_);
      isTaken_[i] = false;
      freed_.notify_one();
    });
  }

 private:
  std::array<Slot, kMostInFlight> slots_;
  std::array<bool, kMostInFlight> isTaken_{};
  std::mutex mutex_;
  std::condition_variable freed_;
};

}  // namespace millrace::cuda
