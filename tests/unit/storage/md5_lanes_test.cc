#include "pipeline/storage/md5_lanes.h"

#include <string>

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

/// Eight different texts of one length.
std::array<std::string, Md5Lanes::kLanes> texts(std::size_t bytes) {
  std::array<std::string, Md5Lanes::kLanes> texts;
  std::uint32_t state = 1;
  for (std::string& text : texts) {
    for (std::size_t i = 0; i < bytes; ++i) {
      state = state * 1664525 + 1013904223;
      text.push_back(static_cast<char>(state >> 24U));
    }
  }
  return texts;
}

Md5Lanes::Streams streams_of(const std::array<std::string, Md5Lanes::kLanes>& texts,
                             std::size_t offset) {
  Md5Lanes::Streams streams{};
  for (std::size_t lane = 0; lane < texts.size(); ++lane) {
    streams[lane] = texts[lane].data() + offset;
  }
  return streams;
}

TEST(Md5LanesTest, EveryLaneIsTheMd5OfItsStream) {
  for (const std::size_t bytes : {0U, 64U, 128U, 4096U, 65536U + 64U}) {
    const auto text = texts(bytes);
    Md5Lanes lanes;
    lanes.update(streams_of(text, 0), bytes);
    const auto digests = lanes.finish();
    for (std::size_t lane = 0; lane < text.size(); ++lane) {
      EXPECT_EQ(digests[lane], md5(text[lane])) << bytes << " bytes, lane " << lane;
    }
  }
}

TEST(Md5LanesTest, PiecesMakeTheSameDigests) {
  const auto text = texts(1024);
  Md5Lanes lanes;
  lanes.update(streams_of(text, 0), 64);
  lanes.update(streams_of(text, 64), 640);
  lanes.update(streams_of(text, 704), 320);
  const auto digests = lanes.finish();
  for (std::size_t lane = 0; lane < text.size(); ++lane) {
    EXPECT_EQ(digests[lane], md5(text[lane])) << "lane " << lane;
  }
}

}  // namespace
}  // namespace onnxferry
