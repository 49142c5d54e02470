#include "worker/job_cgroup.h"

#include <cerrno>
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace onnxferry {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsNull;
using testing::NotNull;

/// Groups that cannot be removed yet, as a process in them is still dying.
bool are_groups_busy = false;

/// A folder of the fake holds files, which a group's control files are not.
int remove_fake(const fs::path& group) {
  if (are_groups_busy) {
    return EBUSY;
  }
  std::error_code error;
  fs::remove_all(group, error);
  return error.value();
}

std::string read(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, std::string_view text) {
  std::ofstream(path) << text;
}

/// A folder that looks like a delegated group with this process in it.
class JobCgroupsTest : public testing::Test {
 protected:
  JobCgroupsTest() : own_(fs::path(testing::TempDir()) / "onnxferry-cgroup-test") {
    are_groups_busy = false;
    fs::remove_all(own_);
    make_group(own_, std::to_string(::getpid()) + "\n");
  }
  ~JobCgroupsTest() override { fs::remove_all(own_); }

  static void make_group(const fs::path& path, const std::string& processes) {
    fs::create_directories(path);
    write(path / "cgroup.controllers", "cpuset cpu io memory pids\n");
    write(path / "cgroup.subtree_control", "");
    write(path / "cgroup.procs", processes);
  }
  std::unique_ptr<JobCgroups> take_over(const JobCgroups::Limits& limits = {}) {
    return JobCgroups::take_over(own_, limits, problem_, remove_fake);
  }

  fs::path own_;
  std::string problem_;
};

TEST_F(JobCgroupsTest, MovesTheWorkerAsideAndGivesEachJobItsLimits) {
  const auto groups = take_over({.memory_bytes = 1'000'000'000, .cpu_percent = 150});
  ASSERT_THAT(groups, NotNull()) << problem_;
  EXPECT_EQ(read(own_ / "onnxferry-worker" / "cgroup.procs"), std::to_string(::getpid()));
  EXPECT_EQ(read(own_ / "cgroup.subtree_control"), "+memory +cpu");
  const fs::path path = own_ / "onnxferry-job-0";
  {
    const auto job = groups->make();
    ASSERT_THAT(job, NotNull());
    EXPECT_EQ(read(path / "memory.max"), "1000000000");
    EXPECT_EQ(read(path / "memory.swap.max"), "0");
    EXPECT_EQ(read(path / "cpu.max"), "150000 100000");
    ASSERT_EQ(::write(job->procs_descriptor(), "0", 1), 1);
    EXPECT_EQ(read(path / "cgroup.procs"), "0");
    const auto other = groups->make();
    EXPECT_TRUE(fs::exists(own_ / "onnxferry-job-1"));
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_FALSE(fs::exists(own_ / "onnxferry-job-1"));
}

TEST_F(JobCgroupsTest, WithoutLimitsItOnlyWatches) {
  const auto groups = take_over();
  ASSERT_THAT(groups, NotNull()) << problem_;
  EXPECT_EQ(read(own_ / "cgroup.subtree_control"), "+memory");
  const auto job = groups->make();
  EXPECT_FALSE(fs::exists(own_ / "onnxferry-job-0" / "memory.max"));
  EXPECT_FALSE(fs::exists(own_ / "onnxferry-job-0" / "cpu.max"));
}

TEST_F(JobCgroupsTest, TellsAnOomKillFromAnyOther) {
  const auto groups = take_over();
  const auto job = groups->make();
  EXPECT_FALSE(job->was_oom_killed());
  const fs::path events = own_ / "onnxferry-job-0" / "memory.events";
  write(events, "low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n");
  EXPECT_FALSE(job->was_oom_killed()) << "a limit that was reached and met by reclaiming";
  write(events, "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n");
  EXPECT_TRUE(job->was_oom_killed());
}

TEST_F(JobCgroupsTest, SweepsWhatADeadWorkerLeft) {
  make_group(own_ / "onnxferry-job-7", "");
  make_group(own_ / "somebody-elses", "");
  ASSERT_THAT(take_over(), NotNull());
  EXPECT_FALSE(fs::exists(own_ / "onnxferry-job-7"));
  EXPECT_TRUE(fs::exists(own_ / "somebody-elses"));
}

TEST_F(JobCgroupsTest, ABusyGroupIsRemovedLaterAndItsNameNotUsedMeanwhile) {
  make_group(own_ / "onnxferry-job-0", "");
  are_groups_busy = true;
  const auto groups = take_over();
  EXPECT_EQ(read(own_ / "onnxferry-job-0" / "cgroup.kill"), "1");
  const auto first = groups->make();
  EXPECT_TRUE(fs::exists(own_ / "onnxferry-job-1"));
  are_groups_busy = false;
  const auto second = groups->make();
  EXPECT_FALSE(fs::exists(own_ / "onnxferry-job-0"));
}

TEST_F(JobCgroupsTest, AGroupWithOthersInItIsNotDivided) {
  write(own_ / "cgroup.procs", std::to_string(::getpid()) + "\n1\n");
  EXPECT_THAT(take_over(), IsNull());
  EXPECT_THAT(problem_, HasSubstr("other processes"));
  EXPECT_FALSE(fs::exists(own_ / "onnxferry-worker"));
}

TEST_F(JobCgroupsTest, NeedsTheControllersOfItsLimits) {
  write(own_ / "cgroup.controllers", "memory pids\n");
  EXPECT_THAT(take_over({.cpu_percent = 100}), IsNull());
  EXPECT_THAT(problem_, HasSubstr("no controller cpu"));
  EXPECT_THAT(take_over(), NotNull());
}

TEST_F(JobCgroupsTest, MovesBackWhenTheKernelRefusesToDivide) {
  fs::remove(own_ / "cgroup.subtree_control");
  fs::create_directory(own_ / "cgroup.subtree_control");  // cannot be written
  EXPECT_THAT(take_over(), IsNull());
  EXPECT_THAT(problem_, HasSubstr("cannot enable +memory"));
  EXPECT_EQ(read(own_ / "cgroup.procs"), std::to_string(::getpid()));
  EXPECT_FALSE(fs::exists(own_ / "onnxferry-worker"));
}

TEST_F(JobCgroupsTest, StaysWhereASupervisorHasPutTheWorkerAside) {
  write(own_ / "cgroup.procs", "");
  const fs::path inner = own_ / "onnxferry-worker";
  make_group(inner, std::to_string(::getpid()) + "\n");
  const auto groups = JobCgroups::take_over(inner, {}, problem_, remove_fake);
  ASSERT_THAT(groups, NotNull()) << problem_;
  const auto job = groups->make();
  EXPECT_TRUE(fs::exists(own_ / "onnxferry-job-0"));
}

TEST_F(JobCgroupsTest, AJobWhoseGroupCannotBeMadeRunsWithoutOne) {
  const auto groups = take_over();
  fs::remove_all(own_);
  EXPECT_THAT(groups->make(), IsNull());
}

TEST(FindCgroup, JoinsTheMountAndThePath) {
  constexpr std::string_view kMounts =
      "22 1 0:20 / /proc rw - proc proc rw\n"
      "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
  EXPECT_EQ(find_cgroup("0::/system.slice/onnxferry.service\n", kMounts),
            "/sys/fs/cgroup/system.slice/onnxferry.service");
  EXPECT_EQ(find_cgroup("0::/\n", kMounts), "/sys/fs/cgroup");
  EXPECT_EQ(find_cgroup("4:memory:/a\n0::/b\n", kMounts), "/sys/fs/cgroup/b") << "hybrid";
  EXPECT_EQ(find_cgroup("4:memory:/a\n", kMounts), std::nullopt) << "version 1 only";
  EXPECT_EQ(find_cgroup("0::/../other\n", kMounts), std::nullopt) << "above the namespace";
  EXPECT_EQ(find_cgroup("0::/a\n", "22 1 0:20 / /proc rw - proc proc rw\n"), std::nullopt);
}

TEST(FindCgroup, LeavesOutWhatIsAboveTheMount) {
  constexpr std::string_view kMounts =
      "30 22 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
  EXPECT_EQ(find_cgroup("0::/docker/abc\n", kMounts), "/sys/fs/cgroup");
  EXPECT_EQ(find_cgroup("0::/docker/abc/inner\n", kMounts), "/sys/fs/cgroup/inner");
  EXPECT_EQ(find_cgroup("0::/docker/abcdef\n", kMounts), std::nullopt);
}

}  // namespace
}  // namespace onnxferry
