#include "pipeline/archive/byte_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::size_t kBlockBytes = 1U << 20;

struct Magic {
  std::string_view bytes;
  std::string_view name;
};

constexpr std::array<Magic, 8> kUnreadFormats = {{
    {"PK\x03\x04", "zip"},
    {"PK\x05\x06", "zip"},
    {"\x28\xB5\x2F\xFD", "zstd"},
    {std::string_view("\xFD\x37\x7A\x58\x5A\x00", 6), "xz"},
    {"BZh", "bzip2"},
    {"7z\xBC\xAF\x27\x1C", "7z"},
    {"\x04\x22\x4D\x18", "lz4"},
    {"Rar!", "rar"},
}};
constexpr std::string_view kGzipMagic = "\x1F\x8B";

}  // namespace

FileSource::FileSource(const std::filesystem::path& path, StageScope& scope)
    : name_(path.filename().string()),
      scope_(scope),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kBlockBytes)) {
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd_ < 0) {
    const int error = errno;
    const ErrorCode code = error == EACCES                      ? ErrorCode::kPermissionDenied
                           : error == EMFILE || error == ENFILE ? ErrorCode::kResourceExhausted
                                                                : ErrorCode::kSourceNotFound;
    throw Error(
        code,
        fmt::format(
            "the archive {} cannot be opened: {}", name_, std::generic_category().message(error)),
        name_);
  }
  struct stat status{};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd_);
    throw Error(ErrorCode::kSourceNotFound,
                fmt::format("the archive {} is not a regular file", name_),
                name_);
  }
  file_bytes_ = static_cast<std::uint64_t>(status.st_size);
  ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);  // advice only; a failure changes nothing
}

FileSource::~FileSource() {
  ::close(fd_);
}

std::size_t FileSource::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  while (true) {
    const ssize_t count = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (count >= 0) {
      return static_cast<std::size_t>(count);
    }
    if (errno != EINTR) {
      throw Error(ErrorCode::kResourceExhausted,
                  fmt::format("{}: cannot read at byte {}: {}",
                              name_,
                              offset,
                              std::generic_category().message(errno)),
                  name_);
    }
  }
}

std::span<const std::byte> FileSource::next() {
  scope_.check_cancelled();
  const std::size_t count = read_at(position_, {buffer_.get(), kBlockBytes});
  position_ += count;
  return {buffer_.get(), count};
}

std::uint64_t FileSource::skip(std::uint64_t bytes) {
  scope_.check_cancelled();
  // Never past the end: the reader must notice that the bytes are missing.
  const std::uint64_t step = std::min(bytes, file_bytes_ - std::min(position_, file_bytes_));
  position_ += step;
  return step;
}

std::string FileSource::peek(std::size_t bytes) const {
  std::string text(bytes, '\0');
  text.resize(read_at(0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::unique_ptr<ByteSource> open_compression(FileSource& file, const ArchiveLimits& limits) {
  const std::string start = file.peek(16);
  if (start.empty()) {
    throw Error(ErrorCode::kCorruptArchive,
                fmt::format("{} is empty; expected a tar or tar.gz archive", file.name()),
                file.name());
  }
  for (const Magic& format : kUnreadFormats) {
    if (start.starts_with(format.bytes)) {
      throw Error(ErrorCode::kUnsupportedOption,
                  fmt::format("{} is a {} archive, which is not read yet; use tar or tar.gz",
                              file.name(),
                              format.name),
                  file.name());
    }
  }
  if (start.starts_with(kGzipMagic)) {
    return std::make_unique<GzipSource>(file, limits);
  }
  return nullptr;
}

}  // namespace onnxferry
