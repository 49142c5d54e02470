#include "pipeline/storage/file_window.h"

#include <sys/mman.h>

#include "pipeline/storage/http.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; glibc 2.35
#endif

namespace onnxferry {

FileWindow::~FileWindow() {
  unmap();
}

const char* FileWindow::show(int descriptor, std::uint64_t offset, std::size_t count) {
  unmap();
  const char* const mapped = map(descriptor, offset, count);
  return mapped != nullptr ? mapped : read(descriptor, offset, count);
}

void FileWindow::unmap() {
  if (mapped_ != nullptr) {
    ::munmap(mapped_, mapped_bytes_);
    mapped_ = nullptr;
  }
}

const char* FileWindow::map(int descriptor, std::uint64_t offset, std::size_t count) {
  void* const mapped =
      ::mmap(nullptr, count, PROT_READ, MAP_SHARED, descriptor, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) {
    return nullptr;
  }
  mapped_ = mapped;
  mapped_bytes_ = count;
  // Fails where touching a page would be a SIGBUS: the file ends before it or cannot be read.
  if (::madvise(mapped, count, MADV_POPULATE_READ) != 0) {
    unmap();
  }
  return static_cast<const char*>(mapped_);
}

const char* FileWindow::read(int descriptor, std::uint64_t offset, std::size_t count) {
  copy_.resize(count);
  FileBody body(descriptor, offset, count);
  for (std::size_t have = 0; have < count;) {
    const std::ptrdiff_t got = body.read(have, copy_.data() + have, count - have);
    if (got <= 0) {
      return nullptr;
    }
    have += static_cast<std::size_t>(got);
  }
  return copy_.data();
}

}  // namespace onnxferry
