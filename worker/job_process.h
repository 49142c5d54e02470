#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "onnxferry/v1/job.pb.h"
#include "worker/child_process.h"
#include "worker/event_loop.h"
#include "worker/job_cgroup.h"
#include "worker/job_events.h"

namespace onnxferry {

/// The process died without saying how the job ended.
struct JobCrash {
  std::string text;   ///< "died of signal 11 (Segmentation fault) in stage export"
  std::string stage;  ///< the last that was started; may be empty
};

using JobEnd = std::variant<v1::ExportResult, v1::Failure, JobCrash>;

/// One attempt: a running job process, its events and its log lines.
///
/// The process reads its JobSpec from stdin and writes JobEvents to descriptor 3. Its end is
/// reported once, after every event it wrote.
/// Thread: the loop's, which must live as long as the process (see ChildProcess).
class JobProcess {
 public:
  struct Callbacks {
    std::function<void(const v1::JobEvent&)> on_event;  ///< all but the terminal ones
    std::function<void(std::string_view)> on_log_line;
    std::function<void(JobEnd)> on_end;  ///< may destroy this object
  };

  /// \param cgroup  the control group that the process runs in; null: the worker's
  JobProcess(EventLoop& loop,
             const ChildProcess::Options& options,
             Callbacks callbacks,
             std::unique_ptr<JobCgroup> cgroup = nullptr);
  ~JobProcess();
  JobProcess(const JobProcess&) = delete;
  JobProcess& operator=(const JobProcess&) = delete;

  /// Ask it to stop; kill it when it has not after `grace`. Repeated calls change nothing.
  void stop(std::chrono::milliseconds grace);
  void kill() { child_.signal(SIGKILL); }
  /// To be called regularly: enforces the grace.
  void tick();

  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  [[nodiscard]] const std::string& stage() const { return stage_; }

 private:
  void read_events();
  void take_event(v1::JobEvent& event);
  void read_log();
  void finish();
  [[nodiscard]] JobEnd describe_death(const ChildExit& exit) const;
  /// RESOURCE_EXHAUSTED when it died of one of its limits.
  [[nodiscard]] std::optional<v1::Failure> find_limit_hit(const ChildExit& exit) const;
  [[nodiscard]] std::string in_stage() const;

  EventLoop& loop_;
  Callbacks callbacks_;
  std::uint64_t cpu_seconds_;
  std::unique_ptr<JobCgroup> cgroup_;  ///< before child_: nothing may live in it when it goes
  ChildProcess child_;
  FrameReader frames_;
  std::string log_tail_;
  int log_lines_ = 0;
  std::string stage_;
  std::string protocol_failure_;
  std::optional<JobEnd> end_;
  std::optional<std::chrono::steady_clock::time_point> kill_at_;
};

}  // namespace onnxferry
