#include "worker.h"

#include <chrono>
#include <new>
#include <utility>

namespace millrace::addon {
namespace {

// After a job, before the thread sleeps: the next step of a sequence that is alone comes as soon as JavaScript has seen the last one, sooner than a thread wakes.
constexpr auto kSpin = std::chrono::microseconds(300);

}  // namespace

struct Worker::Job {
  std::function<Result(backend::Device&)> work;   // one of the two
  std::function<Wait(backend::Device&)> launch;
  Wait wait;
  napi_deferred deferred = nullptr;
  napi_ref keepAlive = nullptr;
  std::shared_ptr<Worker> worker;
  Result result;
  const char* errorCode = nullptr;  // a literal; null when it went well
  std::string errorMessage;
};

std::shared_ptr<Worker> Worker::start(napi_env env, const std::string& isa, int32_t numThreads) {
  std::shared_ptr<Worker> worker(new Worker(env));
  worker->device_ = std::make_unique<backend::Device>(isa, numThreads);
  check(env, napi_create_threadsafe_function(env, nullptr, nullptr, makeString(env, "millrace"), 0, 1, nullptr, nullptr, nullptr, settle, &worker->completions_));
  // An idle device does not keep the process alive.
  check(env, napi_unref_threadsafe_function(env, worker->completions_));
  // Registered after the threadsafe function's own hook, so it runs before that one: the thread is gone before what it calls is.
  check(env, napi_add_env_cleanup_hook(env, onExit, worker.get()));
  worker->thread_ = std::thread([raw = worker.get()] { raw->run(); });
  if (backend::Device::kLaunchesAhead) worker->waits_ = std::thread([raw = worker.get()] { raw->runWaits(); });
  return worker;
}

Worker::~Worker() { shutDown(); }

void Worker::onExit(void* self) { static_cast<Worker*>(self)->shutDown(); }

napi_value Worker::submit(napi_env env, napi_value keepAlive, std::function<Result(backend::Device&)> work) {
  std::unique_ptr<Job> job = std::make_unique<Job>();
  job->work = std::move(work);
  return submitJob(env, keepAlive, std::move(job));
}

napi_value Worker::submitLaunch(napi_env env, napi_value keepAlive, std::function<Wait(backend::Device&)> launch) {
  std::unique_ptr<Job> job = std::make_unique<Job>();
  job->launch = std::move(launch);
  return submitJob(env, keepAlive, std::move(job));
}

napi_value Worker::submitJob(napi_env env, napi_value keepAlive, std::unique_ptr<Job> job) {
  if (completions_ == nullptr) throw Error("ENGINE_CLOSED", "The backend is closed.");
  job->worker = shared_from_this();
  napi_value promise = nullptr;
  check(env, napi_create_reference(env, keepAlive, 1, &job->keepAlive));
  check(env, napi_create_promise(env, &job->deferred, &promise));
  if (pending_++ == 0) check(env, napi_ref_threadsafe_function(env, completions_));
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back(job.release());
    numQueued_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_one();
  return promise;
}

void Worker::run() {
  for (;;) {
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      job = queue_.front();
      queue_.pop_front();
      numQueued_.fetch_sub(1, std::memory_order_relaxed);
    }
    execute(*job);
    if (job->wait != nullptr && !backend::Device::kLaunchesAhead) await(*job);
    if (job->wait == nullptr) {
      finish(job);
      awaitJob();
      continue;
    }
    {
      const std::lock_guard<std::mutex> lock(launchedMutex_);
      launched_.push_back(job);
    }
    launchedWake_.notify_one();
  }
}

void Worker::runWaits() {
  for (;;) {
    Job* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(launchedMutex_);
      launchedWake_.wait(lock, [this] { return !launching_ || !launched_.empty(); });
      if (launched_.empty()) return;
      job = launched_.front();
      launched_.pop_front();
    }
    await(*job);
    finish(job);
  }
}

// Gives its processor to whoever wants it: with as many threads as processors, JavaScript is one of them.
void Worker::awaitJob() {
  static const bool isAlone = std::thread::hardware_concurrency() < 2;
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  while (!isAlone && numQueued_.load(std::memory_order_acquire) == 0 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
}

namespace {

// Runs `body` and notes what it throws.
template <class Body>
void noting(const char*& errorCode, std::string& errorMessage, Body body) {
  try {
    body();
  } catch (const Error& error) {
    errorCode = error.code();
    errorMessage = error.what();
  } catch (const std::bad_alloc&) {
    errorCode = "MEMORY_INSUFFICIENT";
    errorMessage = "The process is out of memory.";
  } catch (const std::exception& error) {
    errorCode = "BACKEND_STEP_FAILED";
    errorMessage = error.what();
  }
}

}  // namespace

void Worker::execute(Job& job) {
  noting(job.errorCode, job.errorMessage, [&] {
    if (job.launch != nullptr) job.wait = job.launch(*device_);
    else job.result = job.work(*device_);
  });
  job.work = nullptr;
  job.launch = nullptr;
}

void Worker::await(Job& job) {
  noting(job.errorCode, job.errorMessage, [&] { job.result = job.wait(); });
  job.wait = nullptr;  // gives back what it held of the device
}

void Worker::finish(Job* job) {
  // Fails only while the environment closes: then nobody waits for the promise, and references die with it. The job is left to the process's end,
  // since it may hold the last share of this worker, which must not be joined from its own thread.
  napi_call_threadsafe_function(completions_, job, napi_tsfn_nonblocking);
}

void Worker::settle(napi_env env, napi_value, void*, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (env == nullptr) return;
  Worker& worker = *job->worker;
  if (--worker.pending_ == 0 && worker.completions_ != nullptr) napi_unref_threadsafe_function(env, worker.completions_);
  napi_delete_reference(env, job->keepAlive);
  napi_value value = nullptr;
  if (job->errorCode == nullptr) {
    try {
      value = job->result(env);
      napi_resolve_deferred(env, job->deferred, value);
      return;
    } catch (const Error& error) {
      job->errorCode = error.code();
      job->errorMessage = error.what();
    } catch (const std::exception& error) {
      job->errorCode = "INTERNAL";
      job->errorMessage = error.what();
    }
  }
  try {
    napi_reject_deferred(env, job->deferred, makeError(env, job->errorCode, job->errorMessage.c_str()));
  } catch (const Error&) {
    // Not even an error can be made any more: the environment is going down.
  }
}

void Worker::shutDown() {
  if (completions_ == nullptr) return;
  device_->stop();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
  {
    std::lock_guard<std::mutex> lock(launchedMutex_);
    launching_ = false;
  }
  launchedWake_.notify_one();
  if (waits_.joinable()) waits_.join();
  for (Job* job : std::exchange(queue_, {})) {
    job->work = nullptr;
    job->launch = nullptr;
    job->errorCode = "ENGINE_CLOSED";
    job->errorMessage = "The backend was closed.";
    finish(job);
  }
  napi_remove_env_cleanup_hook(env_, onExit, this);
  napi_release_threadsafe_function(std::exchange(completions_, nullptr), napi_tsfn_release);
}

}  // namespace millrace::addon
