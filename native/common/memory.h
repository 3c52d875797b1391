// Large blocks of memory, straight from the system: zeroed, counted when touched, given back when freed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace {

// At least `bytes` bytes, aligned to 64 (to 2 MiB when large, with huge pages asked for).
class Memory {
 public:
  Memory() = default;
  // Throws MEMORY_INSUFFICIENT naming `what`.
  Memory(size_t bytes, const char* what);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  void* mapping_ = nullptr;
  size_t mappingSize_ = 0;
};

}  // namespace millrace
