#include "memory.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "error.h"

namespace millrace {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = 4096;

}  // namespace

Memory::Memory(size_t bytes, const char* what) {
  if (bytes == 0) bytes = 1;
  const bool large = bytes >= 2 * kHugePage;
  mappingSize_ = large ? (bytes + 2 * kHugePage - 1) / kHugePage * kHugePage : (bytes + kPage - 1) / kPage * kPage;
  mapping_ = mappingSize_ < bytes ? MAP_FAILED : mmap(nullptr, mappingSize_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw Error("MEMORY_INSUFFICIENT", "The system has no " + std::to_string(bytes >> 20) + " MiB left for " + what + ".");
  }
  const uintptr_t address = reinterpret_cast<uintptr_t>(mapping_);
  data_ = reinterpret_cast<uint8_t*>(large ? (address + kHugePage - 1) / kHugePage * kHugePage : address);
  size_ = bytes;
#ifdef MADV_HUGEPAGE
  if (large) madvise(data_, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // not the tail: a huge page there would be mostly waste
#endif
}

Memory::~Memory() {
  if (mapping_ != nullptr) munmap(mapping_, mappingSize_);
}

Memory::Memory(Memory&& other) noexcept { *this = std::move(other); }

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mappingSize_, other.mappingSize_);
  return *this;
}

}  // namespace millrace
