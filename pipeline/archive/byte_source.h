#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "pipeline/archive/archive.h"
#include "pipeline/random_access_file.h"

namespace onnxferry {

/// Bytes read once from front to back. Every call checks for cancellation, so that a long skip ends
/// as soon as a long copy. Thread: one at a time.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// The next bytes, valid until the next call; empty at the end. \throws Error
  virtual std::span<const std::byte> next() = 0;
  /// Step over up to `bytes` without reading them. \return how many, 0 where that is impossible
  virtual std::uint64_t skip(std::uint64_t bytes) = 0;
  /// Upper bound of the bytes that the whole source can give.
  [[nodiscard]] virtual std::uint64_t max_bytes() const = 0;
};

/// A regular file in blocks of 1 MiB. Not mapped: a file that shrinks meanwhile is an Error and not
/// a SIGBUS.
class FileSource final : public ByteSource, public RandomAccessFile {
 public:
  /// \throws Error{kSourceNotFound}, Error{kPermissionDenied}
  FileSource(const std::filesystem::path& path, StageScope& scope);
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;
  ~FileSource() override;

  std::span<const std::byte> next() override;
  std::uint64_t skip(std::uint64_t bytes) override;
  [[nodiscard]] std::uint64_t max_bytes() const override { return file_bytes_; }

  /// The first bytes of the file, at most `bytes` of them; the position stays.
  [[nodiscard]] std::string peek(std::size_t bytes) const;
  /// Fill `out` from `offset`; the position stays.
  /// \return false if the file ends before
  [[nodiscard]] bool read_exactly(std::uint64_t offset, std::span<std::byte> out) const override;
  [[nodiscard]] std::uint64_t file_bytes() const override { return file_bytes_; }
  [[nodiscard]] const std::string& name() const override { return name_; }

 private:
  std::size_t read_at(std::uint64_t offset, std::span<std::byte> out) const;

  std::string name_;
  StageScope& scope_;
  int fd_ = -1;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t position_ = 0;
  std::unique_ptr<std::byte[]> buffer_;
};

/// The content of a gzip file of one or more members. The CRC32 and the length of every member are
/// verified; libarchive's own gzip filter skips both.
class GzipSource final : public ByteSource {
 public:
  /// `file` and `limits` outlive this.
  GzipSource(FileSource& file, const ArchiveLimits& limits);
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;
  ~GzipSource() override;

  /// \throws Error{kCorruptArchive} damaged, truncated, or something after the last member;
  ///         Error{kLimitExceeded} past the expansion ratio
  std::span<const std::byte> next() override;
  std::uint64_t skip(std::uint64_t /*bytes*/) override { return 0; }
  [[nodiscard]] std::uint64_t max_bytes() const override;

 private:
  struct State;
  void refill();
  bool start_member();
  void inflate();

  FileSource& file_;
  const ArchiveLimits& limits_;
  std::unique_ptr<State> state_;
};

/// The content of a zstd file of one or more frames, skippable ones among them. Frame checksums
/// and declared sizes are verified where the writer put them. Formats from before zstd 1.0 are not
/// decoded, whatever the library can do.
class ZstdSource final : public ByteSource {
 public:
  /// `file` and `limits` outlive this.
  ZstdSource(FileSource& file, const ArchiveLimits& limits);
  ZstdSource(const ZstdSource&) = delete;
  ZstdSource& operator=(const ZstdSource&) = delete;
  ~ZstdSource() override;

  /// \throws Error{kCorruptArchive} damaged, truncated, or something after the last frame;
  ///         Error{kLimitExceeded} past the expansion ratio, or a window of more than 128 MiB
  std::span<const std::byte> next() override;
  std::uint64_t skip(std::uint64_t /*bytes*/) override { return 0; }
  [[nodiscard]] std::uint64_t max_bytes() const override;

 private:
  struct State;
  bool refill();
  bool start_frame();
  void decompress();
  [[noreturn]] void fail(ErrorCode code, std::string_view what) const;

  FileSource& file_;
  const ArchiveLimits& limits_;
  std::unique_ptr<State> state_;
};

/// What `max_expansion_ratio` lets a file of this size become.
std::uint64_t max_expanded_bytes(std::uint64_t file_bytes, const ArchiveLimits& limits);
/// Refuse a decompression bomb: `output_bytes` came from `input_bytes` so far.
/// \throws Error{kLimitExceeded}
void check_expansion(const std::string& name,
                     std::uint64_t input_bytes,
                     std::uint64_t output_bytes,
                     const ArchiveLimits& limits);

enum class ArchiveFormat : std::uint8_t { kTar, kGzip, kZstd, kZip };

/// By what the first bytes say, never by the name; kTar is what is left.
/// \throws Error{kUnsupportedOption} for archive formats that are not read, Error{kCorruptArchive}
///         for an empty file
ArchiveFormat find_format(const FileSource& file);

/// The layer between `file` and a tar; nullptr for a plain tar, which needs none.
std::unique_ptr<ByteSource> open_compression(FileSource& file,
                                             ArchiveFormat format,
                                             const ArchiveLimits& limits);

}  // namespace onnxferry
