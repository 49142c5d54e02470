#include <string>
#include <utility>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/archive/sandbox.h"
#include "tests/unit/archive/tar_builder.h"

namespace onnxferry {
namespace {

using testing::ElementsAre;
using enum ErrorCode;

using Files = std::vector<std::pair<std::string, std::string>>;

/// By libarchive's writer: streamed, sizes and CRC in data descriptors. `options` as in
/// "compression=store,zip64".
std::string zip(const Files& files, const char* options = nullptr) {
  std::string out(16U << 20, '\0');
  std::size_t used = 0;
  archive* writer = archive_write_new();
  archive_write_set_format_zip(writer);
  EXPECT_EQ(archive_write_set_options(writer, options), ARCHIVE_OK);
  archive_write_set_bytes_in_last_block(writer, 1);
  archive_write_open_memory(writer, out.data(), out.size(), &used);
  archive_entry* entry = archive_entry_new();
  for (const auto& [name, data] : files) {
    const bool is_directory = name.ends_with('/');
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, name.c_str());
    archive_entry_set_filetype(entry, is_directory ? AE_IFDIR : AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, static_cast<la_int64_t>(data.size()));
    archive_write_header(writer, entry);
    archive_write_data(writer, data.data(), data.size());
  }
  archive_entry_free(entry);
  archive_write_close(writer);
  archive_write_free(writer);
  out.resize(used);
  return out;
}

Files model() {
  return {{"config.json", "{}"}, {"model.safetensors", noise(3 << 20)}, {"empty.txt", ""}};
}

struct Writer {
  const char* name;
  const char* options;
};

class ZipWriters : public testing::TestWithParam<Writer> {};

TEST_P(ZipWriters, AreUnpackedByteForByte) {
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(zip(model(), GetParam().options));
  EXPECT_THAT(result.files, ElementsAre("config.json", "empty.txt", "model.safetensors"));
  EXPECT_EQ(sandbox.read("model.safetensors"), noise(3 << 20));
  EXPECT_EQ(sandbox.read("config.json"), "{}");
  EXPECT_EQ(sandbox.read("empty.txt"), "");
  EXPECT_EQ(result.bytes, (3U << 20) + 2);
}

INSTANTIATE_TEST_SUITE_P(Options,
                         ZipWriters,
                         testing::Values(Writer{"Deflate", "compression=deflate"},
                                         Writer{"Stored", "compression=store"},
                                         Writer{"DeflateZip64", "compression=deflate,zip64"},
                                         Writer{"StoredZip64", "compression=store,zip64"}),
                         [](const auto& row) { return row.param.name; });

TEST(Zip, DeflateOfManyBlocksIsUnpacked) {
  std::string text;
  while (text.size() < 5U << 20) {
    text += noise(1000 + text.size() % 777).substr(0, 300) + std::string(500, 'a');
  }
  Sandbox sandbox;
  sandbox.extract(zip({{"config.json", "{}"}, {"vocab.json", text}}));
  EXPECT_EQ(sandbox.read("vocab.json"), text);
}

TEST(Zip, FindsANestedRootAndTakesOnlyWhatIsNeeded) {
  Sandbox sandbox;
  const ExtractedArchive result = sandbox.extract(zip({{"my-model/", ""},
                                                       {"my-model/config.json", "{}"},
                                                       {"my-model/model.safetensors", "w"},
                                                       {"my-model/pytorch_model.bin", "b"},
                                                       {"__MACOSX/my-model/._config.json", "m"},
                                                       {"my-model/modeling.py", "p"}}));
  EXPECT_EQ(result.model_root, sandbox.job() / "my-model");
  EXPECT_THAT(result.files, ElementsAre("config.json", "model.safetensors"));
  EXPECT_THAT(
      result.skipped,
      ElementsAre(
          "__MACOSX/my-model/._config.json", "my-model/modeling.py", "my-model/pytorch_model.bin"));
  EXPECT_FALSE(std::filesystem::exists(sandbox.job() / "my-model/modeling.py"));
}

TEST(Zip, EveryTruncationIsRefused) {
  const std::string whole = zip({{"config.json", "{}"}, {"model.safetensors", noise(300)}});
  for (std::size_t bytes = 4; bytes < whole.size(); bytes += 3) {
    Sandbox sandbox;
    EXPECT_EQ(sandbox.error_of(std::string_view(whole).substr(0, bytes)).code(), kCorruptArchive)
        << bytes;
  }
}

/// A flipped bit is refused, or is in a field that means nothing to us: then the files are the
/// same.
TEST(Zip, NoFlippedBitChangesAFile) {
  const std::string whole = zip({{"config.json", "{}"}, {"model.safetensors", noise(60)}});
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < 8 * whole.size(); bit += 7) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    Sandbox sandbox;
    try {
      sandbox.extract(damaged);
      EXPECT_EQ(sandbox.read("config.json"), "{}") << bit;
      EXPECT_EQ(sandbox.read("model.safetensors"), noise(60)) << bit;
    } catch (const Error& error) {
      EXPECT_NE(error.code(), kInternal) << bit << ": " << error.message();
      ++refused;
    }
  }
  EXPECT_GT(refused, whole.size() / 2);
}

TEST(Zip, ARatioBombIsStopped) {
  Sandbox sandbox;
  sandbox.expect_refused(
      zip({{"config.json", "{}"}, {"model.safetensors", std::string(40U << 20, '\0')}}),
      kLimitExceeded,
      "expands to more than 20 times its size");
}

TEST(Zip, LimitsAreThoseOfTar) {
  const std::string archive = zip({{"config.json", "{}"}, {"model.safetensors", noise(5000)}});
  Sandbox file;
  file.limits.max_file_bytes = 4999;
  file.expect_refused(
      archive, kLimitExceeded, "\"model.safetensors\" has 5000 bytes, expected at most 4999");
  Sandbox total;
  total.limits.max_total_bytes = 5001;
  total.expect_refused(archive, kLimitExceeded, "takes the archive past 5001 unpacked bytes");
  Sandbox entries;
  entries.limits.max_entries = 1;
  entries.expect_refused(archive, kLimitExceeded, "has 2 entries, expected at most 1");
}

TEST(Zip, CancellationEndsTheRun) {
  Sandbox sandbox;
  sandbox.observer().cancel_after(1 << 20);
  EXPECT_EQ(sandbox.error_of(zip(model(), "compression=store")).code(), kCancelled);
}

TEST(Zip, AnEmptyOneHasNoModel) {
  Sandbox sandbox;
  sandbox.expect_refused(std::string("PK\x05\x06", 4) + std::string(18, '\0'),
                         kCorruptCheckpoint,
                         "no config.json at the root");
}

}  // namespace
}  // namespace onnxferry
