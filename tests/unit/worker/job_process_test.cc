#include "worker/job_process.h"

#include <csignal>
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

  explicit JobRun(const std::string& script, const std::string& input = {}) {
    process.emplace(
        loop,
        ChildProcess::Options{.command = {"/bin/sh", "-c", script}, .input = input},
        JobProcess::Callbacks{
            .on_event =
                [this](const v1::JobEvent& event) { events.push_back(event.ShortDebugString()); },
            .on_log_line = [this](std::string_view line) { lines.emplace_back(line); },
            .on_end = [this](JobEnd job_end) { end = std::move(job_end); }});
  }
  JobRun& wait() {
    while (!end) {
      loop.turn(std::chrono::milliseconds(10));
      process->tick();
    }
    return *this;
  }
  [[nodiscard]] const JobCrash& crash() const { return std::get<JobCrash>(*end); }
};

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
