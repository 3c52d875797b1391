// The runtime on a GPU. The CUDA runtime is linked statically; the driver is found when the device is opened.
#include "runtime.h"

#include <cuda_runtime.h>

#include <utility>

#include "../common/error.h"

namespace millrace::cuda {
namespace {

constexpr int kLeastMajor = 8;

void check(cudaError_t status, const char* code, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // not for the next call to trip over
  throw Error(code, std::string(what) + ": " + cudaGetErrorString(status) + ".");
}

cudaStream_t streamOf(void* handle) { return static_cast<cudaStream_t>(handle); }

}  // namespace

DeviceProperties openDevice(int32_t ordinal) {
  int driver = 0, runtime = 0, count = 0;
  cudaRuntimeGetVersion(&runtime);
  const auto version = [](int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); };
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    throw Error("GPU_UNAVAILABLE", "No NVIDIA driver was found. Install one that supports CUDA " + version(runtime) + ", or run without --backend cuda.");
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    cudaGetLastError();
    throw Error("GPU_UNAVAILABLE", std::string("No GPU can be used: ") + (status == cudaSuccess ? "there is none" : cudaGetErrorString(status)) + ". The driver supports CUDA " +
                                       version(driver) + ", this build needs " + version(runtime) + ".");
  }
  if (ordinal >= count) throw Error("GPU_UNAVAILABLE", "There is no GPU " + std::to_string(ordinal) + ": the machine has " + std::to_string(count) + ".");
  cudaDeviceProp found;
  check(cudaGetDeviceProperties(&found, ordinal), "GPU_UNAVAILABLE", "The GPU does not answer");
  if (found.major < kLeastMajor) throw Error("GPU_UNAVAILABLE", std::string(found.name) + " is too old: compute capability 8.0 or later is needed.");
  useDevice(ordinal);
  DeviceProperties properties;
  properties.name = found.name;
  properties.isa = "sm_" + std::to_string(found.major) + std::to_string(found.minor);
  properties.numMultiprocessors = found.multiProcessorCount;
  check(cudaMemGetInfo(&properties.freeBytes, &properties.totalBytes), "GPU_UNAVAILABLE", "The memory of the GPU cannot be asked for");
  return properties;
}

void useDevice(int32_t ordinal) { check(cudaSetDevice(ordinal), "GPU_UNAVAILABLE", "The GPU cannot be selected"); }

Buffer::Buffer(size_t bytes, const char* what) : size_(bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), "MEMORY_INSUFFICIENT", (std::string("The GPU has no memory left for ") + what).c_str());
  data_ = static_cast<uint8_t*>(memory);
  if (cudaMemset(memory, 0, bytes == 0 ? 1 : bytes) != cudaSuccess) {
    cudaFree(std::exchange(memory, nullptr));
    data_ = nullptr;
    check(cudaErrorMemoryAllocation, "BACKEND_STEP_FAILED", "The memory of the GPU cannot be cleared");
  }
}
Buffer::~Buffer() { cudaFree(data_); }
void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
}

PinnedBuffer::PinnedBuffer(size_t bytes) : size_(bytes) {
  void* memory = nullptr;
  check(cudaMallocHost(&memory, bytes == 0 ? 1 : bytes), "MEMORY_INSUFFICIENT", "There is no pinned memory left for a batch");
  data_ = static_cast<uint8_t*>(memory);
}
PinnedBuffer::~PinnedBuffer() { cudaFreeHost(data_); }
void PinnedBuffer::swap(PinnedBuffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
}

Stream::Stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "GPU_UNAVAILABLE", "The GPU gives no stream");
  handle_ = stream;
}
Stream::~Stream() { cudaStreamDestroy(streamOf(handle_)); }
void Stream::upload(void* device, const void* host, size_t bytes) const {
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, streamOf(handle_)), "BACKEND_STEP_FAILED", "A copy to the GPU failed");
}
void Stream::download(void* host, const void* device, size_t bytes) const {
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, streamOf(handle_)), "BACKEND_STEP_FAILED", "A copy from the GPU failed");
}
void Stream::downloadRows(void* host, const void* device, size_t deviceStride, size_t width, size_t rows) const {
  if (rows == 0 || width == 0) return;
  check(cudaMemcpy2DAsync(host, width, device, deviceStride, width, rows, cudaMemcpyDeviceToHost, streamOf(handle_)), "BACKEND_STEP_FAILED", "A copy from the GPU failed");
}
void Stream::synchronize() const { check(cudaStreamSynchronize(streamOf(handle_)), "BACKEND_STEP_FAILED", "The GPU failed"); }

Event::Event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "BACKEND_STEP_FAILED", "The GPU gives no event");
  handle_ = event;
}
Event::~Event() { cudaEventDestroy(static_cast<cudaEvent_t>(handle_)); }
void Event::record(const Stream& stream) {
  check(cudaEventRecord(static_cast<cudaEvent_t>(handle_), streamOf(stream.handle())), "BACKEND_STEP_FAILED", "The GPU takes no event");
}
void Event::synchronize() const { check(cudaEventSynchronize(static_cast<cudaEvent_t>(handle_)), "BACKEND_STEP_FAILED", "The GPU failed"); }
double Event::millisecondsSince(const Event& earlier) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(earlier.handle_), static_cast<cudaEvent_t>(handle_)), "BACKEND_STEP_FAILED", "The GPU keeps no time");
  return milliseconds;
}

Graph::Graph(const Stream& stream, const std::function<void()>& launches) {
  const cudaStream_t recorded = streamOf(stream.handle());
  check(cudaStreamBeginCapture(recorded, cudaStreamCaptureModeRelaxed), "BACKEND_STEP_FAILED", "The GPU records no launches");
  cudaGraph_t graph = nullptr;
  try {
    launches();
  } catch (...) {
    cudaStreamEndCapture(recorded, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(recorded, &graph), "BACKEND_STEP_FAILED", "The launches of a step cannot be recorded");
  cudaGraphExec_t ready = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "BACKEND_STEP_FAILED", "The recorded launches of a step cannot be used");
  handle_ = ready;
}
Graph::~Graph() { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(handle_)); }
void Graph::launch(const Stream& stream) const {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(handle_), streamOf(stream.handle())), "BACKEND_STEP_FAILED", "A recorded step does not start");
}

}  // namespace millrace::cuda
