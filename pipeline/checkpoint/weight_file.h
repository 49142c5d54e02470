#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "pipeline/random_access_file.h"

namespace onnxferry {

/// An open weight file. Read with pread and never mapped: a file that is truncated while we work is
/// then an Error instead of a SIGBUS. Thread: any, concurrent reads allowed.
class WeightFile final : public RandomAccessFile {
 public:
  /// \throws Error{kCorruptCheckpoint} missing or no regular file; Error{kPermissionDenied};
  ///         Error{kResourceExhausted} too many open files
  explicit WeightFile(const std::filesystem::path& path);
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;
  ~WeightFile() override;

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::uint64_t file_bytes() const override { return bytes_; }
  /// \throws Error{kResourceExhausted} if the disk fails
  [[nodiscard]] bool read_exactly(std::uint64_t offset, std::span<std::byte> out) const override;

  /// \param what  names what is read in messages, e.g. the tensor
  /// \throws Error{kCorruptCheckpoint} if the file ends before
  void read(std::uint64_t offset, std::span<std::byte> out, const std::string& what) const;
  [[nodiscard]] std::string read_text(std::uint64_t offset, std::uint64_t bytes) const;

 private:
  [[noreturn]] void fail_open(int error) const;
  /// \return how many bytes there were
  std::size_t read_some(std::uint64_t offset,
                        std::span<std::byte> out,
                        const std::string& what) const;

  std::string name_;
  int fd_ = -1;
  std::uint64_t bytes_ = 0;
};

}  // namespace onnxferry
