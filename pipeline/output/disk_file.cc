#include "pipeline/output/disk_file.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace onnxferry {

DiskFile::DiskFile(std::filesystem::path path, int flags)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), flags | O_CLOEXEC, 0600)) {
  if (descriptor_ < 0) {
    fail("cannot open");
  }
}

DiskFile::~DiskFile() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

std::size_t DiskFile::read(std::span<std::byte> bytes) const {
  while (true) {
    const ssize_t count = ::read(descriptor_, bytes.data(), bytes.size());
    if (count >= 0) {
      return static_cast<std::size_t>(count);
    }
    if (errno != EINTR) {
      fail("cannot read");
    }
  }
}

void DiskFile::write(std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      fail("cannot write");
    }
  }
}

void DiskFile::reserve(std::uint64_t bytes) const {
  // Not posix_fallocate: where the file system cannot reserve, it writes every block.
  while (::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) != 0) {
    if (errno == EOPNOTSUPP || errno == ENOSYS) {
      return;
    }
    if (errno != EINTR) {
      fail("cannot reserve space for");
    }
  }
}

void DiskFile::set_mode(mode_t mode) const {
  if (::fchmod(descriptor_, mode) != 0) {
    fail("cannot set the mode of");
  }
}

void DiskFile::close() {
  if (::close(std::exchange(descriptor_, -1)) != 0 && errno != EINTR) {
    fail("cannot close");
  }
}

void DiskFile::fail(const char* what) const {
  throw std::filesystem::filesystem_error(
      what, path_, std::error_code(errno, std::generic_category()));
}

}  // namespace onnxferry
