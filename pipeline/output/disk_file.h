#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include <sys/types.h>

namespace onnxferry {

/// A file descriptor that is closed at the end. Failures of the system are thrown as
/// std::filesystem::filesystem_error with the path; a call interrupted by a signal goes on.
class DiskFile {
 public:
  /// open(2) with O_CLOEXEC added; a file that is created gets mode 0600.
  DiskFile(std::filesystem::path path, int flags);
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;
  ~DiskFile();

  /// Up to bytes.size() bytes; 0 at the end of the file.
  [[nodiscard]] std::size_t read(std::span<std::byte> bytes) const;
  /// All of them.
  void write(std::span<const std::byte> bytes) const;
  /// Take disk space for the whole file now: a full disk then shows before the work, and the file
  /// lies in one piece. File systems that cannot do so are left alone.
  void reserve(std::uint64_t bytes) const;
  void set_mode(mode_t mode) const;
  /// Close and report what the system says then (some network file systems report a full disk
  /// only here).
  void close();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  [[noreturn]] void fail(const char* what) const;

  std::filesystem::path path_;
  int descriptor_;
};

}  // namespace onnxferry
