#include "pipeline/archive/output_directory.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pipeline/archive/entry_name.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr int kDirectoryFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

[[noreturn]] void fail_create(const std::string& path, int error) {
  const bool is_unsafe =
      error == EEXIST || error == ELOOP || error == ENOTDIR || error == EXDEV || error == EISDIR;
  const bool is_full = error == ENOSPC || error == EDQUOT || error == EMFILE || error == ENFILE;
  throw Error(
      is_unsafe ? ErrorCode::kCorruptArchive
      : is_full ? ErrorCode::kResourceExhausted
                : ErrorCode::kInternal,
      fmt::format(
          "cannot create {}: {}", quote_entry(path), std::generic_category().message(error)),
      path);
}

}  // namespace

OutputFile::OutputFile(OutputFile&& other) noexcept
    : name_(std::move(other.name_)), fd_(std::exchange(other.fd_, -1)) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

void OutputFile::fail(int error, std::uint64_t needed_bytes) const {
  if (error == EFBIG) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{} is larger than this process may write", quote_entry(name_)),
                name_);
  }
  struct statvfs space{};
  const bool is_known = ::fstatvfs(fd_, &space) == 0;
  const std::uint64_t free_bytes = is_known ? std::uint64_t{space.f_bavail} * space.f_frsize : 0;
  throw Error(ErrorCode::kResourceExhausted,
              fmt::format("unpacking {} needs {} bytes: {}; the scratch disk has {} bytes free",
                          quote_entry(name_),
                          needed_bytes,
                          std::generic_category().message(error),
                          free_bytes),
              name_);
}

void OutputFile::reserve(std::uint64_t bytes) {
  // fallocate, not posix_fallocate: glibc emulates the latter by writing every block.
  if (bytes == 0 || ::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0) {
    return;
  }
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
    fail(errno, bytes);
  }
}

void OutputFile::write(std::uint64_t offset, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t count = ::pwrite(fd_, data.data(), data.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      fail(count == 0 ? EIO : errno, data.size());
    }
    offset += static_cast<std::uint64_t>(count);
    data = data.subspan(static_cast<std::size_t>(count));
  }
}

void OutputFile::set_size(std::uint64_t bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) {
    fail(errno, bytes);
  }
}

OutputDirectory::OutputDirectory(const std::filesystem::path& path, PathResolution resolution)
    : fd_(::open(path.c_str(), kDirectoryFlags)), resolution_(resolution) {
  if (fd_ < 0) {
    throw std::filesystem::filesystem_error(
        "cannot open the directory to unpack into", path, {errno, std::generic_category()});
  }
}

OutputDirectory::~OutputDirectory() {
  ::close(fd_);
}

int OutputDirectory::open_below(const std::vector<std::string>& components,
                                std::size_t count,
                                int flags) const {
  const std::string path = count == 0 ? "." : join_components(components, count);
  if (resolution_ == PathResolution::kAuto) {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags);
    how.mode = (flags & O_CREAT) != 0 ? kFileMode : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long fd = ::syscall(SYS_openat2, fd_, path.c_str(), &how, sizeof(how));
    // EPERM is how older seccomp filters answer to system calls that they do not know.
    if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) {
      return static_cast<int>(fd);
    }
  }
  if (count == 0) {
    return ::openat(fd_, ".", kDirectoryFlags);
  }
  // One component at a time, none may be a link: the same guarantee in more calls.
  int parent = ::openat(fd_, ".", kDirectoryFlags);
  for (std::size_t i = 0; parent >= 0 && i + 1 < count; ++i) {
    const int next = ::openat(parent, components[i].c_str(), kDirectoryFlags);
    const int error = errno;
    ::close(parent);
    errno = error;
    parent = next;
  }
  if (parent < 0) {
    return -1;
  }
  const int fd = ::openat(parent, components[count - 1].c_str(), flags | O_NOFOLLOW, kFileMode);
  const int error = errno;
  ::close(parent);
  errno = error;
  return fd;
}

void OutputDirectory::create_parents(const std::vector<std::string>& components) {
  for (std::size_t count = 0; count + 1 < components.size(); ++count) {
    const int parent = open_below(components, count, kDirectoryFlags);
    const int result =
        parent < 0 ? -1 : ::mkdirat(parent, components[count].c_str(), kDirectoryMode);
    const int error = errno;
    if (parent >= 0) {
      ::close(parent);
    }
    if (result != 0 && error != EEXIST) {
      fail_create(join_components(components, count + 1), error);
    }
  }
}

OutputFile OutputDirectory::create_file(const std::vector<std::string>& components) {
  create_parents(components);
  const std::string path = join_components(components, components.size());
  const int fd = open_below(
      components, components.size(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) {
    fail_create(path, errno);
  }
  return {fd, path};
}

}  // namespace onnxferry
