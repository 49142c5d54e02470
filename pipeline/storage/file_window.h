#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace onnxferry {

/// A piece of an open file in memory, one after another: mapped, which spares copying its bytes, or
/// read where it cannot be mapped (kernels before 5.14, odd offsets). The pages are in place before
/// it is looked at, so a file that is too short or cannot be read is a value here and no SIGBUS;
/// one that somebody cuts while the piece is looked at still is one. Thread: one at a time.
class FileWindow {
 public:
  FileWindow() = default;
  FileWindow(const FileWindow&) = delete;
  FileWindow& operator=(const FileWindow&) = delete;
  ~FileWindow();

  /// Move to `count` bytes from `offset` on.
  /// \return those bytes, until the next call; null: the file does not have them
  const char* show(int descriptor, std::uint64_t offset, std::size_t count);

 private:
  void unmap();
  const char* map(int descriptor, std::uint64_t offset, std::size_t count);
  const char* read(int descriptor, std::uint64_t offset, std::size_t count);

  void* mapped_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  std::vector<char> copy_;
};

}  // namespace onnxferry
