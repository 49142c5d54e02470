#include "pipeline/storage/crc.h"

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

Crc of(Crc::Kind kind, std::string_view bytes) {
  Crc crc(kind);
  crc.update(bytes);
  return crc;
}

// "Check" values of the catalogue of parametrised CRC algorithms; RFC 3720 B.4; the NVMe vectors
// are those of the NVM Command Set specification, figure 121.
TEST(Crc, MatchesPublishedValues) {
  EXPECT_EQ(of(Crc::Kind::kCrc32c, "123456789").value(), 0xE3069283U);
  EXPECT_EQ(of(Crc::Kind::kCrc32c, std::string(32, '\0')).value(), 0x8A9136AAU);
  EXPECT_EQ(of(Crc::Kind::kCrc32c, std::string(32, '\xFF')).value(), 0x62A8AB43U);
  EXPECT_EQ(of(Crc::Kind::kCrc64Nvme, "123456789").value(), 0xAE8B14860A799888ULL);
  EXPECT_EQ(of(Crc::Kind::kCrc64Nvme, std::string(4096, '\0')).value(), 0x6482D367EB22B64EULL);
  EXPECT_EQ(of(Crc::Kind::kCrc64Nvme, std::string(4096, '\xFF')).value(), 0xC0DDBA7302ECA3ACULL);
  EXPECT_EQ(of(Crc::Kind::kCrc64Nvme, "").value(), 0U);
}

TEST(Crc, PiecesGiveTheSameAsTheWhole) {
  const std::string text = "any old bytes, long enough for two words and a rest";
  for (const Crc::Kind kind : {Crc::Kind::kCrc32c, Crc::Kind::kCrc64Nvme}) {
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      Crc crc(kind);
      crc.update(std::string_view(text).substr(0, cut));
      crc.update(std::string_view(text).substr(cut));
      EXPECT_EQ(crc.value(), of(kind, text).value()) << cut;
    }
  }
}

TEST(Crc, TextFormIsBigEndian) {
  EXPECT_EQ(of(Crc::Kind::kCrc32c, "123456789").base64(), "4waSgw==");
  EXPECT_EQ(of(Crc::Kind::kCrc64Nvme, "123456789").base64(), "rosUhgp5mIg=");
}

}  // namespace
}  // namespace onnxferry
