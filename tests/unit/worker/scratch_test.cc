#include "worker/scratch.h"

#include <fstream>
#include <optional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

class ScratchTest : public testing::Test {
 protected:
  ScratchTest() : root_(fs::path(testing::TempDir()) / "onnxferry-scratch-test") {
    fs::remove_all(root_);
  }
  ~ScratchTest() override { fs::remove_all(root_); }
  fs::path root_;
};

TEST_F(ScratchTest, LiveOwnersHaveDifferentSlotsAndAFreedOneIsTakenAgain) {
  std::optional<Scratch> first(std::in_place, root_);
  const Scratch second(root_);
  EXPECT_EQ(first->slot(), 0);
  EXPECT_EQ(second.slot(), 1);
  first.reset();
  EXPECT_EQ(Scratch(root_).slot(), 0);
}

TEST_F(ScratchTest, SweepsWhatDeadOwnersLeftButNotWhatLiveOnesUse) {
  Scratch live(root_);
  const fs::path used = live.make_job_directory();
  for (const int slot : {1, 2}) {  // owners that died: their locks are free
    std::ofstream(root_ / ("slot-" + std::to_string(slot) + ".lock")) << "";
    const fs::path left = root_ / ("slot-" + std::to_string(slot) + "-job-0");
    fs::create_directories(left / "deep");
    std::ofstream(left / "deep" / "file") << "left";
  }
  const Scratch next(root_);
  EXPECT_EQ(next.slot(), 1);
  EXPECT_TRUE(fs::exists(used));
  EXPECT_FALSE(fs::exists(root_ / "slot-1-job-0"));
  EXPECT_FALSE(fs::exists(root_ / "slot-2-job-0"));
}

TEST_F(ScratchTest, JobDirectoriesArePrivateAndGoAway) {
  {
    Scratch scratch(root_);
    const fs::path first = scratch.make_job_directory();
    const fs::path second = scratch.make_job_directory();
    EXPECT_NE(first, second);
    EXPECT_EQ(fs::status(first).permissions(), fs::perms::owner_all);
    scratch.remove_job_directory(first);
    EXPECT_FALSE(fs::exists(first));
    EXPECT_GT(scratch.free_bytes(), 0U);
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(root_)) {
    EXPECT_EQ(entry.path().extension(), ".lock");
  }
}

TEST_F(ScratchTest, RefusesARootThatIsAFile) {
  std::ofstream(root_) << "a file";
  EXPECT_THROW(Scratch{root_}, Error);
}

}  // namespace
}  // namespace onnxferry
