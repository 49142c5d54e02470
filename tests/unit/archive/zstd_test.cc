#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zstd.h>

#include "tests/unit/archive/sandbox.h"
#include "tests/unit/archive/tar_builder.h"

namespace onnxferry {
namespace {

using testing::ElementsAre;
using enum ErrorCode;

/// One frame as the zstd program writes it: with a checksum.
std::string zstd(std::string_view text, int window_log = 0) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  if (window_log != 0) {
    // Without a known size, the header claims the whole window however little comes.
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  }
  std::string out(ZSTD_compressBound(text.size()) + 64, '\0');
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  ZSTD_inBuffer from{text.data(), text.size(), 0};
  ZSTD_compressStream2(context, &to, &from, ZSTD_e_continue);
  EXPECT_EQ(ZSTD_compressStream2(context, &to, &from, ZSTD_e_end), 0U);
  ZSTD_freeCCtx(context);
  out.resize(to.pos);
  return out;
}

std::string skippable(std::string_view text) {
  std::string frame = "\x5A\x2A\x4D\x18";
  for (int i = 0; i < 4; ++i) {
    frame += static_cast<char>(text.size() >> (8 * i) & 0xFF);
  }
  return frame.append(text);
}

TarBuilder model() {
  return TarBuilder().file("config.json", "{}");
}

std::string small_tar() {
  return model().file("model.safetensors", noise(3000)).end().bytes();
}

TEST(Zstd, IsFoundByContentAndUnpackedByteForByte) {
  const std::string weights = noise(3 << 20);
  Sandbox sandbox;
  const ExtractedArchive result =
      sandbox.extract(zstd(model().file("model.safetensors", weights).end().bytes()));
  EXPECT_THAT(result.files, ElementsAre("config.json", "model.safetensors"));
  EXPECT_EQ(sandbox.read("model.safetensors"), weights);
}

TEST(Zstd, ReadsSeveralFramesAndSkippableOnes) {
  const std::string tar = small_tar();
  Sandbox sandbox;
  sandbox.extract(skippable("pzstd writes sizes here") + zstd(tar.substr(0, 700)) + skippable("") +
                  zstd("") + zstd(tar.substr(700)) + skippable("at the end"));
  EXPECT_EQ(sandbox.read("model.safetensors"), noise(3000));
}

TEST(Zstd, ReadsAFrameWhoseMagicCrossesAReadBlock) {
  // The skippable frame ends two bytes before the reader's first MiB does.
  Sandbox sandbox;
  sandbox.extract(skippable(std::string((1U << 20) - 8 - 2, 's')) + zstd(small_tar()));
  EXPECT_EQ(sandbox.read("model.safetensors"), noise(3000));
}

TEST(Zstd, AcceptsAWindowOf128MiBAndNamesTheLimitAboveIt) {
  Sandbox fits;
  EXPECT_EQ(fits.extract(zstd(small_tar(), 27)).bytes, 3002U);
  Sandbox too_large;
  too_large.expect_refused(zstd(small_tar(), 28),
                           kLimitExceeded,
                           "needs a window of more than 128 MiB; pack with zstd --long=27 at most");
}

TEST(Zstd, EveryTruncationIsRefused) {
  const std::string whole = zstd(small_tar());
  for (std::size_t bytes = 1; bytes < whole.size(); bytes += bytes < 30 ? 1 : 13) {
    Sandbox sandbox;
    EXPECT_EQ(sandbox.error_of(std::string_view(whole).substr(0, bytes)).code(), kCorruptArchive)
        << bytes;
  }
  Sandbox sandbox;
  sandbox.expect_refused(
      std::string_view(whole).substr(0, whole.size() - 1), kCorruptArchive, "is truncated");
}

TEST(Zstd, AFlippedBitIsCaughtByTheChecksum) {
  const std::string whole = zstd(model().file("model.safetensors", noise(100'000)).end().bytes());
  for (const std::size_t at : {whole.size() / 2, whole.size() - 1}) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    Sandbox sandbox;
    sandbox.expect_refused(damaged, kCorruptArchive, "zstd checksum differs from the data");
  }
}

TEST(Zstd, GarbageBehindTheLastFrameIsRefused) {
  // The second is a frame of zstd 0.4, which the library could decode.
  for (const std::string garbage : {"x", "\x24\xB5\x2F\xFD old", "some more garbage"}) {
    Sandbox sandbox;
    sandbox.expect_refused(
        zstd(small_tar()) + garbage, kCorruptArchive, "no zstd frame follows the last zstd frame");
  }
}

TEST(Zstd, ARatioBombIsStopped) {
  Sandbox sandbox;
  sandbox.expect_refused(
      zstd(model().file("model.safetensors", std::string(40U << 20, '\0')).end().bytes()),
      kLimitExceeded,
      "expands to more than 20 times its size");
}

TEST(Zstd, RulesOfTarHoldInside) {
  Sandbox sandbox;
  sandbox.expect_refused(zstd(model().file("../evil.json", "x").end().bytes()),
                         kCorruptArchive,
                         "leaves the archive's directory");
  Sandbox cut;
  cut.expect_refused(zstd(model().bytes()), kCorruptArchive, "without the end-of-archive marker");
}

}  // namespace
}  // namespace onnxferry
