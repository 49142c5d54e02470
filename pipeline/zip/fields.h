#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace onnxferry {

/// Little-endian numbers in a record of a zip. The caller has checked that the record is whole.
class ZipFields {
 public:
  explicit ZipFields(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] std::uint16_t u16(std::size_t at) const {
    return static_cast<std::uint16_t>(number(at, 2));
  }
  [[nodiscard]] std::uint32_t u32(std::size_t at) const {
    return static_cast<std::uint32_t>(number(at, 4));
  }
  [[nodiscard]] std::uint64_t u64(std::size_t at) const { return number(at, 8); }
  [[nodiscard]] std::string text(std::size_t at, std::size_t count) const {
    const std::span<const std::byte> part = bytes_.subspan(at, count);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }

 private:
  [[nodiscard]] std::uint64_t number(std::size_t at, std::size_t width) const {
    const std::span<const std::byte> part = bytes_.subspan(at, width);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < width; ++i) {
      value |= std::to_integer<std::uint64_t>(part[i]) << (8 * i);
    }
    return value;
  }

  std::span<const std::byte> bytes_;
};

/// Where the central directory lies, by the records at the end of the file.
struct ZipEnd {
  std::uint64_t entries = 0;
  std::uint64_t directory_offset = 0;
  std::uint64_t directory_bytes = 0;
};

class RandomAccessFile;

/// Find and check the end record, and the zip64 ones if there are any.
/// \throws Error{kCorruptArchive}; Error{kUnsupportedOption} for a part of a split archive
ZipEnd read_zip_end(const RandomAccessFile& file);

}  // namespace onnxferry
