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

constexpr std::array<Magic, 5> kUnreadFormats = {{
    {std::string_view("\xFD\x37\x7A\x58\x5A\x00", 6), "xz"},
    {"BZh", "bzip2"},
    {"7z\xBC\xAF\x27\x1C", "7z"},
    {"\x04\x22\x4D\x18", "lz4"},
    {"Rar!", "rar"},
}};
constexpr std::string_view kGzipMagic = "\x1F\x8B";
constexpr std::string_view kZstdMagic = "\x28\xB5\x2F\xFD";
constexpr std::string_view kZipEntryMagic = "PK\x03\x04";
constexpr std::string_view kZipEndMagic = "PK\x05\x06";  // a zip without entries

constexpr std::uint64_t kRatioFreeBytes = 16U << 20;

/// 0x184D2A50 to 0x184D2A5F, little endian: zstd tools put such frames before the data.
bool is_skippable_frame(std::string_view start) {
  return start.size() >= 4 && (static_cast<unsigned char>(start[0]) & 0xF0U) == 0x50U &&
         start.substr(1, 3) == "\x2A\x4D\x18";
}

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

bool FileSource::read_exactly(std::uint64_t offset, std::span<std::byte> out) const {
  scope_.check_cancelled();
  while (!out.empty()) {
    const std::size_t count = read_at(offset, out);
    if (count == 0) {
      return false;
    }
    offset += count;
    out = out.subspan(count);
  }
  return true;
}

std::uint64_t max_expanded_bytes(std::uint64_t file_bytes, const ArchiveLimits& limits) {
  return file_bytes * limits.max_expansion_ratio + kRatioFreeBytes;
}

void check_expansion(const std::string& name,
                     std::uint64_t input_bytes,
                     std::uint64_t output_bytes,
                     const ArchiveLimits& limits) {
  if (output_bytes <= kRatioFreeBytes || output_bytes / limits.max_expansion_ratio <= input_bytes) {
    return;
  }
  throw Error(ErrorCode::kLimitExceeded,
              fmt::format("{} expands to more than {} times its size ({} bytes from {}); model "
                          "weights compress by less than 5",
                          name,
                          limits.max_expansion_ratio,
                          output_bytes,
                          input_bytes),
              name);
}

ArchiveFormat find_format(const FileSource& file) {
  const std::string start = file.peek(16);
  if (start.empty()) {
    throw Error(
        ErrorCode::kCorruptArchive,
        fmt::format("{} is empty; expected a tar, tar.gz, tar.zst or zip archive", file.name()),
        file.name());
  }
  for (const Magic& format : kUnreadFormats) {
    if (start.starts_with(format.bytes)) {
      throw Error(ErrorCode::kUnsupportedOption,
                  fmt::format("{} is a {} archive, which is not read; use tar, tar.gz, tar.zst or "
                              "zip",
                              file.name(),
                              format.name),
                  file.name());
    }
  }
  if (start.starts_with(kGzipMagic)) {
    return ArchiveFormat::kGzip;
  }
  if (start.starts_with(kZstdMagic) || is_skippable_frame(start)) {
    return ArchiveFormat::kZstd;
  }
  if (start.starts_with(kZipEntryMagic) || start.starts_with(kZipEndMagic)) {
    return ArchiveFormat::kZip;
  }
  return ArchiveFormat::kTar;
}

std::unique_ptr<ByteSource> open_compression(FileSource& file,
                                             ArchiveFormat format,
                                             const ArchiveLimits& limits) {
  switch (format) {
    case ArchiveFormat::kGzip:
      return std::make_unique<GzipSource>(file, limits);
    case ArchiveFormat::kZstd:
      return std::make_unique<ZstdSource>(file, limits);
    default:
      return nullptr;
  }
}

}  // namespace onnxferry
