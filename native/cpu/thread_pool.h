// The pool behind ThreadPool of kernels.h. The thread that calls run() is worker 0 and works too; numThreads - 1 others help.
//
// A job is published by raising `generation_`; workers that are awake enter it, take tiles from one atomic counter, and leave. run() closes the
// job and waits only for workers that entered, so a sleeping or late worker never delays a small op. Waiting is by spinning for at most kSpin,
// then by condition variable: on a shared machine, spinning without bound costs more than it wins.
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

  Recent& recentOf(Tile tile, int64_t numTiles);
  void share(int64_t numTiles, Tile tile, void* context);
  void work(int worker);
  void takeTiles(int worker);
  bool enter(uint64_t& seen);
  void leave();
  void waitForWork(uint64_t seen);
  void waitForWorkers();

  // The job: written by run() while no worker is inside, read by workers that entered.
  Tile tile_ = nullptr;
  void* context_ = nullptr;
  int64_t numTiles_ = 0;

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
