// Where the time of a program's steps goes, node by node: counted from when somebody first asks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace millrace {

class Profile {
 public:
  explicit Profile(size_t numNodes) : numNodes_(numNodes), nodes_(new Node[numNodes]) {}

  bool isOn() const { return isOn_.load(std::memory_order_relaxed); }
  size_t numNodes() const { return numNodes_; }

  void add(size_t node, int64_t nanoseconds, int64_t waitNanoseconds) {
    nodes_[node].calls.fetch_add(1, std::memory_order_relaxed);
    nodes_[node].nanoseconds.fetch_add(nanoseconds, std::memory_order_relaxed);
    nodes_[node].waitNanoseconds.fetch_add(waitNanoseconds, std::memory_order_relaxed);
  }

  // [numNodes, 3]: calls, nanoseconds, and those of them that the first thread waited for others. Starts from zero, and counts from now on.
  void take(double* out) {
    isOn_.store(true, std::memory_order_relaxed);
    for (size_t i = 0; i < numNodes_; i++) {
      out[3 * i] = static_cast<double>(nodes_[i].calls.exchange(0, std::memory_order_relaxed));
      out[3 * i + 1] = static_cast<double>(nodes_[i].nanoseconds.exchange(0, std::memory_order_relaxed));
      out[3 * i + 2] = static_cast<double>(nodes_[i].waitNanoseconds.exchange(0, std::memory_order_relaxed));
    }
  }

 private:
  struct Node {
    std::atomic<int64_t> calls{0}, nanoseconds{0}, waitNanoseconds{0};
  };
  const size_t numNodes_;
  std::unique_ptr<Node[]> nodes_;
  std::atomic<bool> isOn_{false};
};

}  // namespace millrace
