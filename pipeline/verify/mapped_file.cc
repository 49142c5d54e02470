#include "pipeline/verify/mapped_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace onnxferry {

MappedFile::MappedFile(const std::filesystem::path& path)
    : size_(std::filesystem::file_size(path)) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  void* const mapped = fd < 0 ? MAP_FAILED : ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  const std::error_code code(errno, std::generic_category());
  if (fd >= 0) {
    ::close(fd);
  }
  if (mapped == MAP_FAILED) {
    throw std::system_error(code, "cannot map " + path.filename().string());
  }
  data_ = static_cast<std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    ::munmap(data_, size_);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}

}  // namespace onnxferry
