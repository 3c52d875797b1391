// The thread that owns a device. JavaScript hands it jobs and gets promises, which it resolves through a threadsafe function: never libuv's pool, so
// file and DNS work of the host is not held up, and never the JavaScript thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "backend.h"
#include "values.h"

namespace millrace::addon {

class Worker : public std::enable_shared_from_this<Worker> {
 public:
  // Starts the thread. Throws CONFIG_INVALID.
  static std::shared_ptr<Worker> start(napi_env env, const std::string& isa, int32_t numThreads);
  ~Worker();

  backend::Device& device() { return *device_; }

  // Makes the value that a promise resolves to, on the JavaScript thread.
  using Result = std::function<napi_value(napi_env)>;
  // Runs `work` on the thread; the promise resolves to what the function that it returns makes, or rejects with its Error. `keepAlive`, a JavaScript
  // array, lives until then.
  napi_value submit(napi_env env, napi_value keepAlive, std::function<Result(backend::Device&)> work);
  // The same in two parts: what `launch` returns waits for the device on another thread, while the next job is launched, where the device
  // launches ahead. Promises resolve in order.
  using Wait = std::function<Result()>;
  napi_value submitLaunch(napi_env env, napi_value keepAlive, std::function<Wait(backend::Device&)> launch);

  // Ends the running job at the next chance, rejects those that wait, joins the thread. For the JavaScript thread; may be called again.
  void shutDown();

 private:
  struct Job;
  explicit Worker(napi_env env) : env_(env) {}
  napi_value submitJob(napi_env env, napi_value keepAlive, std::unique_ptr<Job> job);
  void run();
  void awaitJob();
  void runWaits();
  void execute(Job& job);
  void await(Job& job);
  void finish(Job* job);  // towards JavaScript
  static void settle(napi_env env, napi_value callback, void* context, void* data);
  static void onExit(void* self);

  napi_env env_;
  std::unique_ptr<backend::Device> device_;
  napi_threadsafe_function completions_ = nullptr;
  int pending_ = 0;  // jobs not settled; JavaScript thread only

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job*> queue_;
  bool stopping_ = false;
  std::atomic<int> numQueued_{0};  // what awaitJob looks at without the mutex
  std::thread thread_;

  // Launched jobs, for the second thread.
  std::mutex launchedMutex_;
  std::condition_variable launchedWake_;
  std::deque<Job*> launched_;
  bool launching_ = true;  // more may come
  std::thread waits_;
};

}  // namespace millrace::addon
