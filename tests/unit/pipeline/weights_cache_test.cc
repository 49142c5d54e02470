#include "pipeline/weights_cache.h"

#include <thread>

#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;
using testing::read_text;
using testing::write_text;

class WeightsCacheTest : public ::testing::Test {
 protected:
  /// A directory with one file of `bytes` bytes, as a job leaves it.
  fs::path unpacked(const std::string& name, std::size_t bytes) {
    const fs::path path = temp_.path() / name;
    fs::create_directory(path);
    write_text(path / "model.safetensors", std::string(bytes, name.front()));
    return path;
  }
  static SourceIdentity source(const std::string& key, const std::string& etag = "e1") {
    return {.uri = "s3://bucket/" + key, .info = {.bytes = 7, .etag = etag, .version = {}}};
  }
  /// Entries get their time of use from the file system's clock.
  static void wait_a_tick() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

  testing::TempDir temp_;
  WeightsCache cache_{temp_.path() / "cache", 1000, "http://store"};
};

TEST_F(WeightsCacheTest, GivesBackWhatWasKept) {
  EXPECT_FALSE(cache_.find(source("a")));
  const fs::path directory = unpacked("a", 100);
  cache_.keep(source("a"), directory);
  EXPECT_FALSE(fs::exists(directory));
  const auto lease = cache_.find(source("a"));
  ASSERT_TRUE(lease);
  EXPECT_EQ(read_text(lease->path() / "model.safetensors"), std::string(100, 'a'));
}

TEST_F(WeightsCacheTest, AnotherVersionSizeKeyOrStoreIsAnotherObject) {
  cache_.keep(source("a"), unpacked("a", 100));
  EXPECT_FALSE(cache_.find(source("b")));
  EXPECT_FALSE(cache_.find(source("a", "e2")));
  SourceIdentity other = source("a");
  other.info.version = "v2";
  EXPECT_FALSE(cache_.find(other));
  other = source("a");
  other.info.bytes = 8;
  EXPECT_FALSE(cache_.find(other));
  EXPECT_FALSE(WeightsCache(temp_.path() / "cache", 1000, "http://another").find(source("a")));
  EXPECT_TRUE(WeightsCache(temp_.path() / "cache", 1000, "http://store").find(source("a")));
}

TEST_F(WeightsCacheTest, AnObjectWithoutVersionIsNeverKept) {
  const fs::path directory = unpacked("a", 100);
  cache_.keep(source("a", ""), directory);
  EXPECT_TRUE(fs::exists(directory));
  EXPECT_FALSE(cache_.find(source("a", "")));
}

TEST_F(WeightsCacheTest, TheLeastRecentlyUsedMakesRoom) {
  cache_.keep(source("a"), unpacked("a", 400));
  wait_a_tick();
  cache_.keep(source("b"), unpacked("b", 400));
  wait_a_tick();
  EXPECT_TRUE(cache_.find(source("a")));
  wait_a_tick();
  cache_.keep(source("c"), unpacked("c", 400));
  EXPECT_TRUE(cache_.find(source("a")));
  EXPECT_FALSE(cache_.find(source("b")));
  EXPECT_TRUE(cache_.find(source("c")));
}

TEST_F(WeightsCacheTest, WhatAJobReadsStays) {
  cache_.keep(source("a"), unpacked("a", 600));
  {
    const auto lease = cache_.find(source("a"));
    ASSERT_TRUE(lease);
    const fs::path next = unpacked("b", 600);
    cache_.keep(source("b"), next);
    EXPECT_TRUE(fs::exists(next)) << "no room, so it is not taken";
    cache_.forget(source("a"));
    cache_.make_room(std::numeric_limits<std::uint64_t>::max());
    EXPECT_TRUE(fs::exists(lease->path() / "model.safetensors"));
  }
  cache_.forget(source("a"));
  EXPECT_FALSE(cache_.find(source("a")));
}

TEST_F(WeightsCacheTest, LargerThanTheCacheIsNotKept) {
  const fs::path directory = unpacked("a", 1001);
  cache_.keep(source("a"), directory);
  EXPECT_TRUE(fs::exists(directory));
  EXPECT_FALSE(cache_.find(source("a")));
}

TEST_F(WeightsCacheTest, MakesRoomOnlyAsLongAsItIsNeeded) {
  cache_.keep(source("a"), unpacked("a", 400));
  cache_.make_room(1);
  EXPECT_TRUE(cache_.find(source("a")));
  cache_.make_room(std::numeric_limits<std::uint64_t>::max());
  EXPECT_FALSE(cache_.find(source("a")));
}

TEST_F(WeightsCacheTest, WhatADeadProcessLeftHalfRemovedGoes) {
  cache_.keep(source("a"), unpacked("a", 400));
  const fs::path left = temp_.path() / "cache" / "leaving-0123";
  fs::create_directory(left);
  write_text(left / "model.safetensors", "half");
  EXPECT_TRUE(cache_.find(source("a")));
  EXPECT_FALSE(fs::exists(left));
}

TEST_F(WeightsCacheTest, ACacheThatCannotBeMadeCostsNothing) {
  write_text(temp_.path() / "file", "not a directory");
  WeightsCache broken(temp_.path() / "file" / "cache", 1000, "");
  const fs::path directory = unpacked("a", 10);
  broken.keep(source("a"), directory);
  EXPECT_FALSE(broken.find(source("a")));
  EXPECT_TRUE(fs::exists(directory));
}

}  // namespace
}  // namespace onnxferry
