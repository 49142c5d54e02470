#pragma once

#include <cstddef>
#include <filesystem>

namespace onnxferry {

/// A whole file mapped read-only and shared: its pages belong to the page cache and count neither
/// as anonymous memory nor against RLIMIT_DATA. The file must not shrink while mapped.
class MappedFile {
 public:
  /// \throws std::system_error when the file cannot be opened or mapped
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile& operator=(MappedFile&&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace onnxferry
