#include "worker/job_process.h"

#include <csignal>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace onnxferry {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A shell as job process, run to its end.
struct JobRun {
  EventLoop loop;
  std::vector<std::string> events;
  std::vector<std::string> lines;
  std::optional<JobEnd> end;
  std::optional<JobProcess> process;

  explicit JobRun(const std::string& script, const std::string& input = {})
      : JobRun({.command = {"/bin/sh", "-c", script}, .input = input}, nullptr) {}
  JobRun(const ChildProcess::Options& options, std::unique_ptr<JobCgroup> cgroup) {
    process.emplace(
        loop,
        options,
        JobProcess::Callbacks{
            .on_event =
                [this](const v1::JobEvent& event) { events.push_back(event.ShortDebugString()); },
            .on_log_line = [this](std::string_view line) { lines.emplace_back(line); },
            .on_end = [this](JobEnd job_end) { end = std::move(job_end); }},
        std::move(cgroup));
  }
  JobRun& wait() {
    while (!end) {
      loop.turn(std::chrono::milliseconds(10));
      process->tick();
    }
    return *this;
  }
  [[nodiscard]] const JobCrash& crash() const { return std::get<JobCrash>(*end); }
  [[nodiscard]] const v1::Failure& failure() const { return std::get<v1::Failure>(*end); }
};

ChildProcess::Options shell(const std::string& script) {
  return {.command = {"/bin/sh", "-c", script}, .input = {}};
}

/// printf arguments that write the framed event to descriptor 3.
std::string write_event(const v1::JobEvent& event) {
  std::string escaped = "printf '";
  for (const unsigned char byte : frame(event)) {
    std::array<char, 8> text{};
    std::snprintf(text.data(), text.size(), "\\%03o", byte);
    escaped += text.data();
  }
  return escaped + "' >&3\n";
}

TEST(JobProcess, ReadsItsInputAndRelaysItsLog) {
  JobRun run("cat; echo no newline >&2; printf tail", "a\nb\n");
  run.wait();
  EXPECT_THAT(run.lines, ElementsAre("a", "b", "no newline", "tail"));
}

TEST(JobProcess, ReportsEventsThenTheResult) {
  v1::JobEvent started;
  started.mutable_stage_started()->set_stage("download");
  v1::JobEvent result;
  result.mutable_result()->set_output_uri("s3://b/out/");
  JobRun run(write_event(started) + write_event(result) + "exit 3");
  run.wait();
  ASSERT_EQ(run.events.size(), 1U);
  EXPECT_THAT(run.events[0], HasSubstr("download"));
  EXPECT_EQ(std::get<v1::ExportResult>(*run.end).output_uri(), "s3://b/out/");
}

TEST(JobProcess, ReportsACrashWithSignalAndStage) {
  v1::JobEvent started;
  started.mutable_stage_started()->set_stage("export");
  JobRun run(write_event(started) + "kill -SEGV $$");
  EXPECT_EQ(run.wait().crash().text, "died of signal 11 (Segmentation fault) in stage export");
  JobRun quiet("exit 4");
  EXPECT_EQ(quiet.wait().crash().text, "ended with exit code 4 and no result");
  JobRun missing("printf '\\005xx' >&3; exit 0");
  EXPECT_EQ(missing.wait().crash().text, "ended with exit code 0 and no result");
}

TEST(JobProcess, EndsAProcessThatSpeaksNonsense) {
  JobRun run("printf '\\377\\377\\377\\377\\377\\377\\377\\377\\377\\377\\377' >&3; exec sleep 60");
  EXPECT_THAT(run.wait().crash().text, HasSubstr("its events could not be read"));
}

TEST(JobProcess, StopsTheWholeGroupAndKillsWhatIgnoresIt) {
  JobRun polite("exec sleep 60");
  polite.process->stop(std::chrono::seconds(60));
  EXPECT_THAT(polite.wait().crash().text, HasSubstr("signal 15"));
  JobRun deaf("trap '' TERM; echo $$; sleep 60 & echo $!; while :; do sleep 60; done");
  while (deaf.lines.size() < 2) {
    deaf.loop.turn(std::chrono::milliseconds(10));
  }
  deaf.process->stop(std::chrono::milliseconds(1));
  EXPECT_THAT(deaf.wait().crash().text, HasSubstr("signal 9"));
}

TEST(JobProcess, ChildHasOnlyItsOwnDescriptorsAndNoCore) {
  const int leaked = ::open("/dev/null", O_RDONLY);  // not close-on-exec on purpose
  JobRun run("ls /proc/self/fd | tr '\\n' ' '; echo; ulimit -c; cat /proc/self/oom_score_adj");
  run.wait();
  ::close(leaked);
  // 4 is ls reading the directory.
  EXPECT_THAT(run.lines, ElementsAre("0 1 2 3 4 ", "0", "1000"));
}

TEST(JobProcess, DeathOfItsCpuTimeIsNoCrash) {
  // The second goes on for a while, as one does that the hard limit ends.
  for (const char* script : {"while :; do :; done",
                             "trap 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; "
                             "kill -KILL $$' XCPU; while :; do :; done"}) {
    ChildProcess::Options options = shell(script);
    options.cpu_seconds = 1;
    JobRun run(options, nullptr);
    run.wait();
    ASSERT_TRUE(std::holds_alternative<v1::Failure>(*run.end)) << script;
    EXPECT_EQ(run.failure().code(), v1::RESOURCE_EXHAUSTED);
    EXPECT_THAT(run.failure().message(), HasSubstr("used up its 1 s of CPU time"));
  }
}

TEST(JobProcess, AKillBelowItsCpuTimeIsACrash) {
  ChildProcess::Options options = shell("kill -KILL $$");
  options.cpu_seconds = 1;
  EXPECT_THAT(JobRun(options, nullptr).wait().crash().text, HasSubstr("signal 9"));
}

TEST(JobProcess, LimitsAreThoseOfItsProcessAndNeverAboveOurs) {
  ChildProcess::Options options = shell("ulimit -d; ulimit -S -t; ulimit -H -t");
  options.memory_bytes = 100U << 20U;
  options.cpu_seconds = 7;
  JobRun run(options, nullptr);
  run.wait();
  EXPECT_THAT(run.lines, ElementsAre("102400", "7", "17"));
}

TEST(JobProcess, MemoryAboveItsLimitIsRefused) {
  // tail keeps what has no line end.
  ChildProcess::Options options = shell("head -c 100000000 /dev/zero | tail -n 1 | wc -c");
  JobRun free(options, nullptr);
  free.wait();
  EXPECT_THAT(free.lines, ElementsAre("100000000"));
  options.memory_bytes = 64U << 20U;
  JobRun limited(options, nullptr);
  limited.wait();
  EXPECT_THAT(limited.lines, testing::Contains(HasSubstr("memory exhausted")));
}

TEST(JobProcess, RunsInItsControlGroupAndIsAskedForWhenItWasKilled) {
  const std::filesystem::path own =
      std::filesystem::path(testing::TempDir()) / "onnxferry-job-process-cgroup";
  std::filesystem::create_directories(own);
  std::ofstream(own / "cgroup.controllers") << "memory";
  std::ofstream(own / "cgroup.subtree_control") << "";
  std::ofstream(own / "cgroup.procs") << ::getpid();
  std::string problem;
  const auto groups =
      JobCgroups::take_over(own, {}, problem, [](const std::filesystem::path& path) {
        std::filesystem::remove_all(path);
        return 0;
      });
  ASSERT_NE(groups, nullptr) << problem;
  const std::string group = (own / "onnxferry-job-0").string();
  JobRun run(shell("cat " + group + "/cgroup.procs; echo; echo 'oom_kill 1' > " + group +
                   "/memory.events; kill -KILL $$"),
             groups->make());
  run.wait();
  EXPECT_THAT(run.lines, ElementsAre("0")) << "what moves the writer";
  ASSERT_TRUE(std::holds_alternative<v1::Failure>(*run.end));
  EXPECT_EQ(run.failure().code(), v1::RESOURCE_EXHAUSTED);
  EXPECT_THAT(run.failure().message(), HasSubstr("lack of memory"));
  run.process.reset();
  EXPECT_FALSE(std::filesystem::exists(group));
  std::filesystem::remove_all(own);
}

TEST(JobProcess, BoundsALineWithoutEndAndTheNumberOfLines) {
  JobRun run("head -c 3000000 /dev/zero | tr '\\0' x; echo; seq 200");
  run.wait();
  ASSERT_LE(run.lines.size(), 51U);
  EXPECT_LE(run.lines.front().size(), 4096U + 16384U);
  EXPECT_THAT(run.lines.back(), HasSubstr("further lines left out"));
}

TEST(JobProcess, SaysWhyAMissingProgramDidNotStart) {
  EventLoop loop;
  std::optional<JobEnd> end;
  std::vector<std::string> lines;
  JobProcess process(loop,
                     {.command = {"/no/such/program"}, .input = {}},
                     {.on_event = [](const v1::JobEvent&) {},
                      .on_log_line = [&](std::string_view line) { lines.emplace_back(line); },
                      .on_end = [&](JobEnd job_end) { end = std::move(job_end); }});
  while (!end) {
    loop.turn(std::chrono::milliseconds(10));
  }
  EXPECT_THAT(lines, ElementsAre("cannot execute the job program"));
  EXPECT_THAT(std::get<JobCrash>(*end).text, HasSubstr("exit code 127"));
}

}  // namespace
}  // namespace onnxferry
