#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "pipeline/error.h"

namespace onnxferry {

/// An open file descriptor.
class FileHandle {
 public:
  explicit FileHandle(int descriptor = -1) : descriptor_(descriptor) {}
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;
  FileHandle(FileHandle&& other) noexcept;
  FileHandle& operator=(FileHandle&& other) noexcept;
  ~FileHandle();

  [[nodiscard]] int get() const { return descriptor_; }
  /// Close now, where a failure still matters. \return errno or 0
  int close();

 private:
  int descriptor_;
};

/// Make the Error for a failed file operation: a full disk is kResourceExhausted, a refused one
/// kPermissionDenied, an absent file `absent_code`.
Error file_error(int error_number,
                 std::string_view operation,
                 const std::filesystem::path& path,
                 ErrorCode absent_code);

/// Open an existing regular file for reading.
/// \throws Error{absent_code} when it is absent or a directory
FileHandle open_to_read(const std::filesystem::path& path, ErrorCode absent_code);

/// Create a new file; it must not exist.
/// \throws Error{kDestinationNotFound} when its directory is absent
FileHandle create_to_write(const std::filesystem::path& path, unsigned int mode);

/// Give a new file its final size, with its blocks where the file system can, so that a full disk
/// shows before the transfer and not at its end.
void reserve_size(const FileHandle& file, std::uint64_t bytes, const std::filesystem::path& path);

}  // namespace onnxferry
