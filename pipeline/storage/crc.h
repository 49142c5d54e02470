#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace onnxferry {

/// A cyclic redundancy check as S3 takes them, over bytes that arrive in pieces. About 2 GB/s per
/// core. (ISA-L 2.30 of Debian 12 has no CRC-64/NVME.)
/// Sources: RFC 3720 B.4 (CRC-32C); NVM Command Set specification 5.2.1.3.4 (CRC-64/NVME)
class Crc {
 public:
  enum class Kind : std::uint8_t { kCrc32c, kCrc64Nvme };
  explicit Crc(Kind kind);

  void update(std::string_view bytes);
  [[nodiscard]] std::uint64_t value() const { return state_ ^ mask_; }
  /// As in x-amz-checksum-*: the big-endian bytes in base64.
  [[nodiscard]] std::string base64() const;

 private:
  using Tables = std::array<std::array<std::uint64_t, 256>, 8>;
  static const Tables& tables(Kind kind);

  const Tables& tables_;
  std::uint64_t mask_;  // all ones, as wide as the check
  std::uint64_t state_;
};

}  // namespace onnxferry
