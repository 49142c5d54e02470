#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace onnxferry {

/// How paths are resolved below the directory. kWalk is for kernels without openat2 (before 5.6)
/// and sandboxes that refuse it; kAuto falls back to it by itself.
enum class PathResolution : std::uint8_t { kAuto, kWalk };

/// A file being written; closed when destroyed. Thread: one at a time.
class OutputFile {
 public:
  OutputFile(int fd, std::string name) : name_(std::move(name)), fd_(fd) {}
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  /// Reserve disk space, so that a full disk shows before gigabytes were written. File systems
  /// that cannot reserve are left alone.
  /// \throws Error{kResourceExhausted} naming needed and free bytes
  void reserve(std::uint64_t bytes);
  void write(std::uint64_t offset, std::span<const std::byte> data);
  void set_size(std::uint64_t bytes);

 private:
  [[noreturn]] void fail(int error, std::uint64_t needed_bytes) const;

  std::string name_;
  int fd_;
};

/// Creates files and directories strictly below one directory, held by descriptor: neither a
/// symbolic link nor a rename of a parent can lead a write outside. Thread: one at a time.
class OutputDirectory {
 public:
  explicit OutputDirectory(const std::filesystem::path& path,
                           PathResolution resolution = PathResolution::kAuto);
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;
  ~OutputDirectory();

  /// Create missing parents (0700) and the file (0600).
  /// \param components  checked names: no "/", no ".."
  /// \throws Error{kCorruptArchive} if something is there already or a parent is no directory
  OutputFile create_file(const std::vector<std::string>& components);

 private:
  void create_parents(const std::vector<std::string>& components);
  [[nodiscard]] int open_below(const std::vector<std::string>& components,
                               std::size_t count,
                               int flags) const;

  int fd_ = -1;
  PathResolution resolution_;
};

}  // namespace onnxferry
