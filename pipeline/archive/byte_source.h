#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "pipeline/archive/archive.h"

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
class FileSource final : public ByteSource {
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
  [[nodiscard]] std::uint64_t file_bytes() const { return file_bytes_; }
  [[nodiscard]] const std::string& name() const { return name_; }

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
  /// `file` outlives this.
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
  void check_ratio() const;

  FileSource& file_;
  std::uint64_t max_ratio_;
  std::unique_ptr<State> state_;
};

/// Wrap `file` by what its first bytes say: nullptr for a plain tar, which needs no layer.
/// \throws Error{kUnsupportedOption} for archive formats that are not read, Error{kCorruptArchive}
///         for an empty file
std::unique_ptr<ByteSource> open_compression(FileSource& file, const ArchiveLimits& limits);

}  // namespace onnxferry
