// The runtime in memory of the host, for the emulator: every call is done when it returns.
#include "../runtime.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "../../common/error.h"

namespace millrace::cuda {

DeviceProperties openDevice(int32_t ordinal) {
  if (ordinal != 0) throw Error("GPU_UNAVAILABLE", "There is no GPU of that number: the emulator has one.");
  DeviceProperties properties;
  properties.name = "emulator";
  properties.isa = "emulated";
  properties.totalBytes = properties.freeBytes = size_t{4} << 30;
  properties.numMultiprocessors = 5;
  return properties;
}

void useDevice(int32_t) {}

namespace {

uint8_t* allocate(size_t bytes, const char* what) {
  void* memory = std::calloc(bytes == 0 ? 1 : bytes, 1);
  if (memory == nullptr) throw Error("MEMORY_INSUFFICIENT", std::string("There is no memory for ") + what + ".");
  return static_cast<uint8_t*>(memory);
}

}  // namespace

Buffer::Buffer(size_t bytes, const char* what) : data_(allocate(bytes, what)), size_(bytes) {}
Buffer::~Buffer() { std::free(data_); }
void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
}

PinnedBuffer::PinnedBuffer(size_t bytes) : data_(allocate(bytes, "a batch")), size_(bytes) {}
PinnedBuffer::~PinnedBuffer() { std::free(data_); }
void PinnedBuffer::swap(PinnedBuffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
}

namespace {

using Launches = std::vector<std::function<void()>>;

// What a stream's handle points to: where launches go while they are recorded.
struct StreamState {
  Launches* recording = nullptr;
};

StreamState& stateOf(const Stream& stream) { return *static_cast<StreamState*>(stream.handle()); }

using Time = std::chrono::steady_clock::time_point;

}  // namespace

namespace emulator {

bool isRecording(const Stream& stream) { return stateOf(stream).recording != nullptr; }
void record(const Stream& stream, std::function<void()> launch) { stateOf(stream).recording->push_back(std::move(launch)); }

}  // namespace emulator

Stream::Stream() : handle_(new StreamState) {}
Stream::~Stream() { delete static_cast<StreamState*>(handle_); }
void Stream::upload(void* device, const void* host, size_t bytes) const { std::memcpy(device, host, bytes); }
void Stream::download(void* host, const void* device, size_t bytes) const { std::memcpy(host, device, bytes); }
void Stream::downloadRows(void* host, const void* device, size_t deviceStride, size_t width, size_t rows) const {
  for (size_t r = 0; r < rows; r++) std::memcpy(static_cast<uint8_t*>(host) + r * width, static_cast<const uint8_t*>(device) + r * deviceStride, width);
}
void Stream::synchronize() const {}

Event::Event() : handle_(new Time()) {}
Event::~Event() { delete static_cast<Time*>(handle_); }
void Event::record(const Stream&) { *static_cast<Time*>(handle_) = std::chrono::steady_clock::now(); }
void Event::synchronize() const {}
double Event::millisecondsSince(const Event& earlier) const {
  return std::chrono::duration<double, std::milli>(*static_cast<Time*>(handle_) - *static_cast<Time*>(earlier.handle_)).count();
}

Graph::Graph(const Stream& stream, const std::function<void()>& launches) {
  Launches recorded;
  stateOf(stream).recording = &recorded;
  try {
    launches();
  } catch (...) {
    stateOf(stream).recording = nullptr;
    throw;
  }
  stateOf(stream).recording = nullptr;
  handle_ = new Launches(std::move(recorded));
}
Graph::~Graph() { delete static_cast<Launches*>(handle_); }
void Graph::launch(const Stream&) const {
  for (const std::function<void()>& launch : *static_cast<Launches*>(handle_)) launch();
}

}  // namespace millrace::cuda
