#include "pipeline/storage/crc.h"

#include <bit>
#include <cstring>
#include <span>

#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::uint64_t kCrc32cPolynomial = 0x82F63B78;                // bits reversed
constexpr std::uint64_t kCrc64NvmePolynomial = 0x9A6C9329AC4BC9B5ULL;  // of 0xAD93D23594C93659
constexpr std::uint64_t kMask32 = 0xFFFFFFFFULL;
static_assert(std::endian::native == std::endian::little, "update() loads little-endian words");

}  // namespace

const Crc::Tables& Crc::tables(Kind kind) {
  // tables[k][b]: the check of byte b followed by k zero bytes ("slicing by 8").
  static const auto make = [](std::uint64_t polynomial) {
    Tables tables{};
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::uint64_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) {
        crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? polynomial : 0);
      }
      tables[0][byte] = crc;
    }
    for (std::size_t k = 1; k < tables.size(); ++k) {
      for (std::size_t byte = 0; byte < 256; ++byte) {
        const std::uint64_t before = tables[k - 1][byte];
        tables[k][byte] = (before >> 8U) ^ tables[0][before & 0xFFU];
      }
    }
    return tables;
  };
  static const Tables crc32c = make(kCrc32cPolynomial);
  static const Tables crc64_nvme = make(kCrc64NvmePolynomial);
  return kind == Kind::kCrc32c ? crc32c : crc64_nvme;
}

Crc::Crc(Kind kind)
    : tables_(tables(kind)), mask_(kind == Kind::kCrc32c ? kMask32 : ~0ULL), state_(mask_) {}

void Crc::update(std::string_view bytes) {
  std::uint64_t crc = state_;
  while (bytes.size() >= sizeof(crc)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof(word));
    word ^= crc;
    crc = tables_[7][word & 0xFFU] ^ tables_[6][(word >> 8U) & 0xFFU] ^
          tables_[5][(word >> 16U) & 0xFFU] ^ tables_[4][(word >> 24U) & 0xFFU] ^
          tables_[3][(word >> 32U) & 0xFFU] ^ tables_[2][(word >> 40U) & 0xFFU] ^
          tables_[1][(word >> 48U) & 0xFFU] ^ tables_[0][word >> 56U];
    bytes.remove_prefix(sizeof(word));
  }
  for (const char c : bytes) {
    crc = (crc >> 8U) ^ tables_[0][(crc ^ static_cast<unsigned char>(c)) & 0xFFU];
  }
  state_ = crc;
}

std::string Crc::base64() const {
  const std::size_t count = mask_ == kMask32 ? 4 : 8;
  std::array<std::uint8_t, 8> bytes{};
  for (std::size_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<std::uint8_t>(value() >> (8 * (count - 1 - i)));
  }
  return to_base64(std::span(bytes).first(count));
}

}  // namespace onnxferry
