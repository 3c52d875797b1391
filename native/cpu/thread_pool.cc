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
constexpr int64_t kFetchBytes = 512 * 1024;  // of a thread's share of what comes next: half of a second cache
constexpr int kLinesAtOnce = 8;              // fetched between two looks at whether the wait is over

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

// Spins until done() or for kSpin; whether done() came true. Calls meanwhile() between looks.
template <class Done, class Meanwhile>
bool spin(Done done, Meanwhile meanwhile) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; i++) {
      if (done()) return true;
      meanwhile();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return done();
}

uint64_t rangeOf(int64_t begin, int64_t end) { return static_cast<uint64_t>(end) << 32 | static_cast<uint64_t>(begin); }
int64_t beginOf(uint64_t range) { return static_cast<int64_t>(range & 0xffffffffu); }
int64_t endOf(uint64_t range) { return static_cast<int64_t>(range >> 32); }
int64_t shareBegin(int64_t numTiles, int worker, int threads) { return numTiles * worker / threads; }

}  // namespace

WorkerPool::WorkerPool(int numThreads) : shares_(static_cast<size_t>(numThreads)) {
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

void WorkerPool::run(int64_t numTiles, Tile tile, void* context) { runJob(numTiles, tile, context, false); }

void WorkerPool::runInShares(int64_t numTiles, Tile tile, void* context) { runJob(numTiles, tile, context, numTiles < INT32_MAX); }

void WorkerPool::runJob(int64_t numTiles, Tile tile, void* context, bool inShares) {
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
    open(numTiles, tile, context, inShares);
    takeTiles(0);
    generation_.fetch_add(1);  // closed: nobody enters any more
    waitForWorkers();
  }
  recent = Recent{tile, numTiles, nanoseconds() - start};
}

WorkerPool::Recent& WorkerPool::recentOf(Tile tile, int64_t numTiles) {
  const uint64_t key = reinterpret_cast<uintptr_t>(tile) + static_cast<uint64_t>(numTiles) * 0x9e3779b97f4a7c15u;
  return recent_[(key * 0x9e3779b97f4a7c15u) >> 56];
}

void WorkerPool::open(int64_t numTiles, Tile tile, void* context, bool inShares) {
  tile_ = tile;
  context_ = context;
  numTiles_ = numTiles;
  inShares_ = inShares;
  const int threads = numThreads();
  for (int w = 0; inShares && w < threads; w++) {
    shares_[static_cast<size_t>(w)].range.store(rangeOf(shareBegin(numTiles, w, threads), shareBegin(numTiles, w + 1, threads)), std::memory_order_relaxed);
  }
  nextTile_.store(0, std::memory_order_relaxed);
  generation_.fetch_add(1);  // open
  if (sleepers_.load() > 0) {
    // The empty critical section orders this wake-up after a worker's last look at generation_ before it sleeps.
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    workCv_.notify_all();
  }
}

void WorkerPool::takeTiles(int worker) {
  if (inShares_) return takeShares(worker);
  for (;;) {
    const int64_t i = nextTile_.fetch_add(1, std::memory_order_relaxed);
    if (i >= numTiles_) return;
    tile_(context_, i, worker);
  }
}

// A range that was seen once does not come back in the same job, since its first tile is taken by then: compare-exchange sees every change.
void WorkerPool::takeShares(int worker) {
  std::atomic<uint64_t>& own = shares_[static_cast<size_t>(worker)].range;
  const int threads = numThreads();
  for (;;) {
    uint64_t range = own.load(std::memory_order_relaxed);
    while (beginOf(range) < endOf(range)) {
      if (!own.compare_exchange_weak(range, rangeOf(beginOf(range) + 1, endOf(range)), std::memory_order_relaxed)) continue;
      tile_(context_, beginOf(range), worker);
      range = own.load(std::memory_order_relaxed);
    }
    bool found = false;
    for (int i = 1; i < threads && !found; i++) found = takeHalf(worker, (worker + i) % threads);
    if (!found) return;
  }
}

// The later half of what the victim has left becomes the worker's share; of one tile, that tile.
bool WorkerPool::takeHalf(int worker, int victim) {
  std::atomic<uint64_t>& theirs = shares_[static_cast<size_t>(victim)].range;
  uint64_t range = theirs.load(std::memory_order_relaxed);
  while (beginOf(range) < endOf(range)) {
    const int64_t middle = beginOf(range) + (endOf(range) - beginOf(range)) / 2;
    if (!theirs.compare_exchange_weak(range, rangeOf(beginOf(range), middle), std::memory_order_relaxed)) continue;
    shares_[static_cast<size_t>(worker)].range.store(rangeOf(middle, endOf(range)), std::memory_order_relaxed);
    return true;
  }
  return false;
}

void WorkerPool::willRead(const uint8_t* data, int64_t numTiles, int64_t tileBytes) {
  nextTiles_.store(numTiles, std::memory_order_relaxed);
  nextTileBytes_.store(tileBytes, std::memory_order_relaxed);
  nextData_.store(data, std::memory_order_relaxed);
}

// A few lines of this thread's share of what comes next; a pause when all of them are asked for.
void WorkerPool::fetchSome(int worker, Fetching& fetching) const {
  const uint8_t* data = nextData_.load(std::memory_order_relaxed);
  if (data != fetching.data) {
    const int64_t tiles = nextTiles_.load(std::memory_order_relaxed), tileBytes = nextTileBytes_.load(std::memory_order_relaxed);
    const int64_t begin = shareBegin(tiles, worker, numThreads()) * tileBytes, end = shareBegin(tiles, worker + 1, numThreads()) * tileBytes;
    fetching = Fetching{data, data + begin, data + (end - begin < kFetchBytes ? end : begin + kFetchBytes)};
  }
  if (fetching.at >= fetching.end) return pauseCpu();
  for (int i = 0; i < kLinesAtOnce; i++) __builtin_prefetch(fetching.at + i * 64, 0, 2);
  fetching.at += kLinesAtOnce * 64;
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
  Fetching fetching;
  while (!stopping_.load(std::memory_order_relaxed)) {
    if (enter(seen)) {
      takeTiles(worker);
      leave();
    } else {
      waitForWork(worker, seen, fetching);
    }
  }
}

void WorkerPool::waitForWork(int worker, uint64_t seen, Fetching& fetching) {
  const auto ready = [&] {
    const uint64_t now = generation_.load();
    return (now % 2 == 1 && now != seen) || stopping_.load();
  };
  if (spin(ready, [&] { fetchSome(worker, fetching); })) return;
  std::unique_lock<std::mutex> lock(mutex_);
  sleepers_.fetch_add(1);
  workCv_.wait(lock, ready);
  sleepers_.fetch_sub(1);
}

void WorkerPool::waitForWorkers() {
  const auto ready = [&] { return inside_.load() == 0; };
  if (ready()) return;
  const int64_t start = nanoseconds();
  if (!spin(ready, [this] { fetchSome(0, fetching_); })) {
    std::unique_lock<std::mutex> lock(mutex_);
    callerSleeps_ = true;
    doneCv_.wait(lock, ready);
    callerSleeps_ = false;
  }
  waitNanoseconds_ += nanoseconds() - start;
}

}  // namespace millrace::cpu
