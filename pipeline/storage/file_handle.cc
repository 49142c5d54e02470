#include "pipeline/storage/file_handle.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace onnxferry {

FileHandle::FileHandle(FileHandle&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

FileHandle::~FileHandle() {
  close();
}

int FileHandle::close() {
  const int descriptor = std::exchange(descriptor_, -1);
  return descriptor >= 0 && ::close(descriptor) != 0 ? errno : 0;
}

Error file_error(int error_number,
                 std::string_view operation,
                 const std::filesystem::path& path,
                 ErrorCode absent_code) {
  ErrorCode code = ErrorCode::kInternal;
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
      code = absent_code;
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      code = ErrorCode::kPermissionDenied;
      break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      code = ErrorCode::kResourceExhausted;
      break;
    case ENAMETOOLONG:
    case ELOOP:
      code = ErrorCode::kInvalidRequest;
      break;
    case EIO:
    case ESTALE:
    case ETIMEDOUT:
      code = ErrorCode::kUnavailable;
      break;
    default:
      break;
  }
  return {code,
          fmt::format(
              "{} {}: {}", operation, path.string(), std::generic_category().message(error_number)),
          path.filename().string()};
}

FileHandle open_to_read(const std::filesystem::path& path, ErrorCode absent_code) {
  // O_NONBLOCK: a FIFO by that name must not hang the job; it has no effect on regular files.
  FileHandle file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (file.get() < 0 || ::fstat(file.get(), &status) != 0) {
    throw file_error(errno, "open", path, absent_code);
  }
  if (!S_ISREG(status.st_mode)) {
    throw Error(absent_code,
                fmt::format("{} is not a regular file; expected one", path.string()),
                path.filename().string());
  }
  return file;
}

FileHandle create_to_write(const std::filesystem::path& path, unsigned int mode) {
  FileHandle file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (file.get() < 0) {
    throw file_error(errno, "create", path, ErrorCode::kDestinationNotFound);
  }
  return file;
}

void reserve_size(const FileHandle& file, std::uint64_t bytes, const std::filesystem::path& path) {
  const auto size = static_cast<off_t>(bytes);
  // Not posix_fallocate: where the file system cannot, glibc would write every block itself.
  if (bytes > 0 && ::fallocate(file.get(), 0, 0, size) != 0 && errno != EOPNOTSUPP &&
      errno != ENOSYS && errno != EINTR) {
    throw file_error(errno, "reserve space for", path, ErrorCode::kInternal);
  }
  if (::ftruncate(file.get(), size) != 0) {
    throw file_error(errno, "resize", path, ErrorCode::kInternal);
  }
}

}  // namespace onnxferry
