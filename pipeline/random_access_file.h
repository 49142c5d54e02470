#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace onnxferry {

/// A file whose bytes can be read at any place. Parsers take this, so that they run on memory, too.
class RandomAccessFile {
 public:
  RandomAccessFile() = default;
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;
  virtual ~RandomAccessFile() = default;

  /// For messages.
  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual std::uint64_t file_bytes() const = 0;
  /// Fill `out` from `offset`. \return false if the file ends before
  [[nodiscard]] virtual bool read_exactly(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

}  // namespace onnxferry
