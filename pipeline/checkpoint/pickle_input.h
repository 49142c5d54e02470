#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "pipeline/random_access_file.h"

namespace onnxferry {

/// The bytes of one or more pickles in a file, from front to back: no opcode can go back. Thread:
/// one.
class PickleInput {
 public:
  /// \param begin, end  the range in the file; `file` outlives this
  PickleInput(const RandomAccessFile& file, std::uint64_t begin, std::uint64_t end)
      : file_(file), loaded_end_(begin), end_(end) {}

  /// \throws Error{kCorruptCheckpoint} at the end of the range, for all of these
  std::uint8_t byte();
  /// Little endian, `width` at most 8.
  std::uint64_t number(std::size_t width);
  /// \throws Error{kLimitExceeded} past 1 MiB
  std::string text(std::uint64_t count);
  /// Up to the next line feed, which is taken, too. \throws Error{kLimitExceeded} past 1 KiB
  std::string line();

  /// In the file, of the next byte.
  [[nodiscard]] std::uint64_t position() const { return loaded_end_ - (filled_ - next_); }
  [[nodiscard]] std::uint64_t left() const { return end_ - position(); }
  [[nodiscard]] const std::string& file_name() const { return file_.name(); }

 private:
  void refill();

  const RandomAccessFile& file_;
  std::uint64_t loaded_end_;  ///< in the file, behind what is in the buffer
  std::uint64_t end_;
  std::array<std::byte, 16384> buffer_{};
  std::size_t next_ = 0;
  std::size_t filled_ = 0;
};

}  // namespace onnxferry
