// The pool behind ThreadPool of kernels.h. The thread that calls run() is worker 0 and works too; numThreads - 1 others help.
//
// A job is published by raising `generation_`; workers that are awake enter it, take tiles from one atomic counter, and leave. run() closes the
// job and waits only for workers that entered, so a sleeping or late worker never delays a small op. Waiting is by spinning for at most kSpin,
// then by condition variable: on a shared machine, spinning without bound costs more than it wins.
//
// Tiles of a job that is run in shares are not taken from one counter: each thread has a run of them of its own, which it goes through in order, so that
// it reads one stream of memory. Who is done takes half of what another has left. Threads that wait for the next job fetch the beginning of their share
// of what it will read (willRead) into their cache.
//
// A job that lately took less than kAlone is done by the caller alone: handing it out, and the caches' exchange of what it reads and writes, costs more than
// half of it. How long a job takes is remembered by its code and number of tiles.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels.h"

namespace millrace::cpu {

class WorkerPool final : public ThreadPool {
 public:
  explicit WorkerPool(int numThreads);
  ~WorkerPool() override;
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int numThreads() const override { return static_cast<int>(workers_.size()) + 1; }
  // Not reentrant, and only ever called by one thread at a time. Tiles must not throw.
  void run(int64_t numTiles, Tile tile, void* context) override;
  void runInShares(int64_t numTiles, Tile tile, void* context) override;
  void willRead(const uint8_t* data, int64_t numTiles, int64_t tileBytes) override;
  int64_t waitNanoseconds() const override { return waitNanoseconds_; }
  // Keeps the thread that calls and the others each on a processor of its own, as far as the process may use enough of them; says whether it is so.
  bool pin();

 private:
  // What a kind of job lately took.
  struct Recent {
    Tile tile = nullptr;
    int64_t numTiles = 0;
    int64_t nanoseconds = 0;
  };
  static constexpr size_t kRecent = 256;
  // Tiles [begin, end) that nobody has taken: begin in the lower half of the word, end in the upper.
  struct alignas(64) Share {
    std::atomic<uint64_t> range{0};
  };
  // How far one thread has come in fetching what it will read.
  struct Fetching {
    const uint8_t* data = nullptr;
    const uint8_t* at = nullptr;
    const uint8_t* end = nullptr;
  };

  Recent& recentOf(Tile tile, int64_t numTiles);
  void runJob(int64_t numTiles, Tile tile, void* context, bool inShares);
  void open(int64_t numTiles, Tile tile, void* context, bool inShares);
  void work(int worker);
  void takeTiles(int worker);
  void takeShares(int worker);
  bool takeHalf(int worker, int victim);
  void fetchSome(int worker, Fetching& fetching) const;
  bool enter(uint64_t& seen);
  void leave();
  void waitForWork(int worker, uint64_t seen, Fetching& fetching);
  void waitForWorkers();

  // The job: written by run() while no worker is inside, read by workers that entered.
  Tile tile_ = nullptr;
  void* context_ = nullptr;
  int64_t numTiles_ = 0;
  bool inShares_ = false;
  std::vector<Share> shares_;

  // What is read next. Threads look at it while it changes: they only fetch by it, and no fetch can fail.
  std::atomic<const uint8_t*> nextData_{nullptr};
  std::atomic<int64_t> nextTiles_{0}, nextTileBytes_{0};
  Fetching fetching_;  // of the thread that calls run(), as what follows
  int64_t waitNanoseconds_ = 0;

  alignas(64) std::atomic<int64_t> nextTile_{0};
  alignas(64) std::atomic<uint64_t> generation_{0};  // odd while a job is open
  alignas(64) std::atomic<int> inside_{0};           // workers that may still touch the job
  std::atomic<bool> stopping_{false};

  std::mutex mutex_;
  std::condition_variable workCv_, doneCv_;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> callerSleeps_{false};
  std::vector<std::thread> workers_;
  Recent recent_[kRecent];  // of run() alone; a place for each kind of job, taken over by the next of the same place
};

}  // namespace millrace::cpu
