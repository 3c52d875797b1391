#include "mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "error.h"

namespace millrace {
namespace {


size_t pageSize() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error("WEIGHTS_FILE_INVALID", "Cannot open " + path + ": " + std::strerror(errno) + ".");
  struct stat status;
  const bool known = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
  void* mapping = known ? mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  const int error = errno;
  close(fd);
  if (!known) throw Error("WEIGHTS_FILE_INVALID", path + " is not a file with anything in it.");
  if (mapping == MAP_FAILED) throw Error("WEIGHTS_FILE_INVALID", "Cannot map " + path + ": " + std::strerror(error) + ".");
  data_ = static_cast<const uint8_t*>(mapping);
  size_ = static_cast<size_t>(status.st_size);
}

MappedFile::~MappedFile() { munmap(const_cast<uint8_t*>(data_), size_); }

void MappedFile::willNeed(size_t offset, size_t bytes) const {
  const size_t begin = offset / pageSize() * pageSize();
  if (offset + bytes <= size_) madvise(const_cast<uint8_t*>(data_) + begin, offset + bytes - begin, MADV_WILLNEED);
}

void MappedFile::release(size_t offset, size_t bytes) const {
  const size_t begin = (offset + pageSize() - 1) / pageSize() * pageSize();
  const size_t end = (offset + bytes) / pageSize() * pageSize();
  if (begin < end && offset + bytes <= size_) madvise(const_cast<uint8_t*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace millrace
