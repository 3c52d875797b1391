// Launching a kernel on a stream: a grid of blocks of `threads` threads, with `sharedBytes` of dynamic shared memory.
#pragma once

#include <functional>
#include <tuple>
#include <utility>

#include "../common/error.h"
#include "gpu.h"
#include "runtime.h"

namespace millrace::cuda {

struct Grid {
  int64_t x;
  int64_t y = 1, z = 1;
};

constexpr size_t kDefaultSharedBytes = size_t{48} << 10;

#ifdef __CUDACC__

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), Grid grid, int threads, size_t sharedBytes, const Stream& stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  const void* function = reinterpret_cast<const void*>(kernel);
  if (sharedBytes > kDefaultSharedBytes) cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(sharedBytes));
  const cudaError_t status = std::apply(
      [&](auto&... value) {
        void* pointers[] = {&value...};
        return cudaLaunchKernel(function, dim3(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z)),
                                dim3(static_cast<unsigned>(threads)), pointers, sharedBytes, static_cast<cudaStream_t>(stream.handle()));
      },
      values);
  require(status == cudaSuccess, "BACKEND_STEP_FAILED", cudaGetErrorString(status));
}

#else

namespace emulator {

// While a graph is recorded (emulator/runtime.cc).
bool isRecording(const Stream& stream);
void record(const Stream& stream, std::function<void()> launch);

}  // namespace emulator

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), Grid grid, int threads, size_t sharedBytes, const Stream& stream, Arguments&&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  auto body = [kernel, values = std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)] { std::apply(kernel, values); };
  auto run = [grid, threads, sharedBytes, body]() mutable {
    emulator::run({static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z)}, static_cast<unsigned>(threads), sharedBytes,
                  [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
  };
  if (emulator::isRecording(stream)) emulator::record(stream, run);
  else run();
}

#endif

}  // namespace millrace::cuda
