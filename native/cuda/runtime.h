// What the host side of the device needs of the CUDA runtime, without its headers: memory, copies, streams, graphs. runtime.cu has it on a GPU,
// emulator/runtime.cc in memory of the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace millrace::cuda {

struct DeviceProperties {
  std::string name;         // as the driver calls it
  std::string isa;          // "sm_90"
  size_t totalBytes = 0, freeBytes = 0;
  int numMultiprocessors = 1;
};

// Selects the device for the calling thread. Throws GPU_UNAVAILABLE saying what was found and what is needed.
DeviceProperties openDevice(int32_t ordinal);
// For every thread that goes on to use the device.
void useDevice(int32_t ordinal);

// Memory of the device, zeroed.
class Buffer {
 public:
  Buffer() = default;
  // Throws MEMORY_INSUFFICIENT naming `what`.
  Buffer(size_t bytes, const char* what);
  ~Buffer();
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(Buffer& other) noexcept;

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// Memory of the host that the device copies from and to at full speed.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept { swap(other); }
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void swap(PinnedBuffer& other) noexcept;

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// The order in which a device works. Everything below takes its turn and may return before it is done.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void* handle() const { return handle_; }
  void upload(void* device, const void* host, size_t bytes) const;
  void download(void* host, const void* device, size_t bytes) const;
  // `rows` runs of `width` bytes, `deviceStride` bytes apart on the device, one behind the other on the host.
  void downloadRows(void* host, const void* device, size_t deviceStride, size_t width, size_t rows) const;
  // Waits for all of it. Throws BACKEND_STEP_FAILED with the device's words.
  void synchronize() const;

 private:
  void* handle_ = nullptr;
};

// A place in a stream that a host thread can wait for, and the time at which the device came to it.
class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(const Stream& stream);
  // Throws BACKEND_STEP_FAILED with the device's words.
  void synchronize() const;
  // Of the device's time; both have been reached.
  double millisecondsSince(const Event& earlier) const;

 private:
  void* handle_ = nullptr;
};

// Launches that were recorded once and are repeated in one call, with the same pointers and sizes.
class Graph {
 public:
  // Runs `launches`, which run nothing but are recorded. Throws what they throw, BACKEND_STEP_FAILED.
  Graph(const Stream& stream, const std::function<void()>& launches);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(const Stream& stream) const;

 private:
  void* handle_ = nullptr;
};

}  // namespace millrace::cuda
