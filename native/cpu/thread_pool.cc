#include "thread_pool.h"

#include <chrono>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace millrace::cpu {
namespace {

constexpr auto kSpin = std::chrono::microseconds(50);
constexpr int64_t kAlone = 3000;  // nanoseconds

int64_t nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline void pauseCpu() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until done() or for kSpin; whether done() came true.
template <class Done>
bool spin(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; i++) {
      if (done()) return true;
      pauseCpu();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

}  // namespace

WorkerPool::WorkerPool(int numThreads) {
  try {
    for (int i = 1; i < numThreads; i++) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error&) {
    // The system gives no more threads: what there is does the work.
  }
}

WorkerPool::~WorkerPool() {
  stopping_ = true;
  {
    std::lock_guard<std::mutex> lock(mutex_);
  }
  workCv_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

bool WorkerPool::pin() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || CPU_COUNT(&allowed) < numThreads()) return false;
  int cpu = -1;
  const auto pinNext = [&](pthread_t thread) {
    do cpu++;
    while (!CPU_ISSET(cpu, &allowed));
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return pthread_setaffinity_np(thread, sizeof one, &one) == 0;
  };
  bool pinned = pinNext(pthread_self());
  for (std::thread& worker : workers_) pinned = pinNext(worker.native_handle()) && pinned;
  return pinned;
#else
  return false;
#endif
}

void WorkerPool::run(int64_t numTiles, Tile tile, void* context) {
  if (workers_.empty() || numTiles <= 1) {
    for (int64_t i = 0; i < numTiles; i++) tile(context, i, 0);
    return;
  }
  Recent& recent = recentOf(tile, numTiles);
  const bool isKnown = recent.tile == tile && recent.numTiles == numTiles;
  const int64_t start = nanoseconds();
  if (isKnown && recent.nanoseconds < kAlone) {
    for (int64_t i = 0; i < numTiles; i++) tile(context, i, 0);
  } else {
    share(numTiles, tile, context);
  }
  recent = Recent{tile, numTiles, nanoseconds() - start};
}

WorkerPool::Recent& WorkerPool::recentOf(Tile tile, int64_t numTiles) {
  const uint64_t key = reinterpret_cast<uintptr_t>(tile) + static_cast<uint64_t>(numTiles) * 0x9e3779b97f4a7c15u;
  return recent_[(key * 0x9e3779b97f4a7c15u) >> 56];
}

void WorkerPool::share(int64_t numTiles, Tile tile, void* context) {
  tile_ = tile;
  context_ = context;
  numTiles_ = numTiles;
  nextTile_.store(0, std::memory_order_relaxed);
  generation_.fetch_add(1);  // open
  if (sleepers_.load() > 0) {
    // The empty critical section orders this wake-up after a worker's last look at generation_ before it sleeps.
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    workCv_.notify_all();
  }
  takeTiles(0);
  generation_.fetch_add(1);  // closed: nobody enters any more
  waitForWorkers();
}

void WorkerPool::takeTiles(int worker) {
  for (;;) {
    const int64_t i = nextTile_.fetch_add(1, std::memory_order_relaxed);
    if (i >= numTiles_) return;
    tile_(context_, i, worker);
  }
}

// Enters the open job, if there is one that this worker has not seen. `inside_` is raised before the second look at generation_, and run() closes
// the job before it looks at inside_: so either run() sees this worker, or this worker sees the job closed.
bool WorkerPool::enter(uint64_t& seen) {
  const uint64_t now = generation_.load();
  if (now == seen || now % 2 == 0) return false;
  inside_.fetch_add(1);
  if (generation_.load() == now) {
    seen = now;
    return true;
  }
  leave();
  return false;
}

void WorkerPool::leave() {
  if (inside_.fetch_sub(1) == 1 && callerSleeps_.load()) {
    std::lock_guard<std::mutex> lock(mutex_);
    doneCv_.notify_one();
  }
}

void WorkerPool::work(int worker) {
  uint64_t seen = 0;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (enter(seen)) {
      takeTiles(worker);
      leave();
    } else {
      waitForWork(seen);
    }
  }
}

void WorkerPool::waitForWork(uint64_t seen) {
  const auto ready = [&] {
    const uint64_t now = generation_.load();
    return (now % 2 == 1 && now != seen) || stopping_.load();
  };
  if (spin(ready)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  workCv_.wait(lock, ready);
  sleepers_.fetch_sub(1);
}

void WorkerPool::waitForWorkers() {
  const auto ready = [&] { return inside_.load() == 0; };
  if (spin(ready)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  callerSleeps_ = true;
  doneCv_.wait(lock, ready);
  callerSleeps_ = false;
}

}  // namespace millrace::cpu
