#include "pipeline/checkpoint/weight_file.h"

#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

}  // namespace

WeightFile::WeightFile(const std::filesystem::path& path) : name_(path.filename().string()) {
  // O_NONBLOCK: opening a FIFO must not hang; it means nothing for regular files.
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd_ < 0) {
    fail_open(errno);
  }
  struct stat status{};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd_);
    throw Error(
        ErrorCode::kCorruptCheckpoint, fmt::format("{} is not a regular file", name_), name_);
  }
  bytes_ = static_cast<std::uint64_t>(status.st_size);
  ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);  // advice only; a failure changes nothing
}

WeightFile::~WeightFile() {
  ::close(fd_);
}

void WeightFile::fail_open(int error) const {
  switch (error) {
    case ENOENT:
      throw Error(ErrorCode::kCorruptCheckpoint, fmt::format("{} is missing", name_), name_);
    case EACCES:
      throw Error(ErrorCode::kPermissionDenied,
                  fmt::format("{}: the file may not be read by this user", name_),
                  name_);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      throw Error(ErrorCode::kResourceExhausted,
                  fmt::format("{}: {}; raise the limit on open files", name_, reason(error)),
                  name_);
    default:
      throw Error(ErrorCode::kCorruptCheckpoint,
                  fmt::format("{} cannot be opened: {}", name_, reason(error)),
                  name_);
  }
}

std::size_t WeightFile::read_some(std::uint64_t offset,
                                  std::span<std::byte> out,
                                  const std::string& what) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t count =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      throw Error(
          ErrorCode::kResourceExhausted,
          fmt::format(
              "{}: cannot read {} at byte {}: {}", name_, what, offset + done, reason(errno)),
          name_);
    }
    if (count == 0) {
      break;
    }
    done += static_cast<std::size_t>(count);
  }
  return done;
}

bool WeightFile::read_exactly(std::uint64_t offset, std::span<std::byte> out) const {
  return read_some(offset, out, "the header") == out.size();
}

void WeightFile::read(std::uint64_t offset,
                      std::span<std::byte> out,
                      const std::string& what) const {
  const std::size_t count = read_some(offset, out, what);
  if (count < out.size()) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{}: {} ends early: no data at byte {} of a file that had {} bytes "
                            "when it was opened; something else is changing it",
                            name_,
                            what,
                            offset + count,
                            bytes_),
                name_);
  }
}

std::string WeightFile::read_text(std::uint64_t offset, std::uint64_t bytes) const {
  std::string text(bytes, '\0');
  read(offset, std::as_writable_bytes(std::span(text)), "the header");
  return text;
}

}  // namespace onnxferry
