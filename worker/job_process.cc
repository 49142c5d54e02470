#include "worker/job_process.h"

#include <array>
#include <csignal>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "worker/reply.h"

namespace onnxferry {
namespace {

constexpr int kMaxLogLines = 50;
constexpr std::size_t kMaxLogLine = 4096;

/// Everything that is there now. \return false at the end of the stream
template <typename Function>
bool read_all(int descriptor, Function&& take) {
  std::array<char, 16384> buffer{};
  while (true) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count == 0) {
      return false;
    }
    if (count < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    take(std::string_view(buffer.data(), static_cast<std::size_t>(count)));
  }
}

ChildProcess::Options in_group(ChildProcess::Options options, const JobCgroup* cgroup) {
  options.cgroup_procs = cgroup == nullptr ? -1 : cgroup->procs_descriptor();
  return options;
}

}  // namespace

JobProcess::JobProcess(EventLoop& loop,
                       const ChildProcess::Options& options,
                       Callbacks callbacks,
                       std::unique_ptr<JobCgroup> cgroup)
    : loop_(loop),
      callbacks_(std::move(callbacks)),
      cpu_seconds_(options.cpu_seconds),
      cgroup_(std::move(cgroup)),
      child_(in_group(options, cgroup_.get())) {
  loop_.add(child_.events_descriptor(), [this] { read_events(); });
  loop_.add(child_.log_descriptor(), [this] { read_log(); });
  loop_.add(child_.exit_descriptor(), [this] { finish(); });
}

JobProcess::~JobProcess() {
  loop_.remove(child_.events_descriptor());
  loop_.remove(child_.log_descriptor());
  loop_.remove(child_.exit_descriptor());
}

void JobProcess::stop(std::chrono::milliseconds grace) {
  if (!kill_at_) {
    child_.signal(SIGTERM);
    kill_at_ = std::chrono::steady_clock::now() + grace;
  }
}

void JobProcess::tick() {
  if (kill_at_ && std::chrono::steady_clock::now() >= *kill_at_) {
    child_.signal(SIGKILL);
  }
}

void JobProcess::read_events() {
  const bool open = read_all(child_.events_descriptor(), [this](std::string_view bytes) {
    if (protocol_failure_.empty()) {
      frames_.feed(bytes);
    }
  });
  if (!open) {
    loop_.remove(child_.events_descriptor());
  }
  try {
    v1::JobEvent event;
    while (protocol_failure_.empty() && frames_.next(event)) {
      take_event(event);
    }
  } catch (const Error& error) {
    protocol_failure_ = error.message();
    child_.signal(SIGKILL);
  }
}

void JobProcess::take_event(v1::JobEvent& event) {
  if (event.has_result()) {
    end_ = std::move(*event.mutable_result());
    return;
  }
  if (event.has_failure()) {
    end_ = std::move(*event.mutable_failure());
    return;
  }
  if (event.has_stage_started()) {
    stage_ = event.stage_started().stage();
  }
  callbacks_.on_event(event);
}

void JobProcess::read_log() {
  const bool open = read_all(child_.log_descriptor(), [this](std::string_view bytes) {
    log_tail_ += bytes;
    std::size_t begin = 0;
    for (std::size_t end = 0; (end = log_tail_.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      if (++log_lines_ <= kMaxLogLines) {
        callbacks_.on_log_line(std::string_view(log_tail_).substr(begin, end - begin));
      }
    }
    log_tail_.erase(0, begin);
    if (log_tail_.size() > kMaxLogLine) {
      log_tail_.resize(kMaxLogLine);  // a line without end must not grow this process
    }
  });
  if (!open) {
    loop_.remove(child_.log_descriptor());
  }
}

void JobProcess::finish() {
  const std::optional<ChildExit> exit = child_.try_wait();
  if (!exit) {
    return;
  }
  loop_.remove(child_.exit_descriptor());
  read_events();
  read_log();
  if (!log_tail_.empty() && log_lines_ < kMaxLogLines) {
    callbacks_.on_log_line(log_tail_);
  }
  if (log_lines_ > kMaxLogLines) {
    callbacks_.on_log_line(fmt::format("({} further lines left out)", log_lines_ - kMaxLogLines));
  }
  JobEnd end = end_ ? std::move(*end_) : describe_death(*exit);
  const auto on_end = std::move(callbacks_.on_end);
  on_end(std::move(end));  // may destroy this object: nothing after it
}

std::string JobProcess::in_stage() const {
  return stage_.empty() ? std::string() : " in stage " + stage_;
}

// SIGKILL of anybody looks alike, so the group's and the process's own accounts are asked.
std::optional<v1::Failure> JobProcess::find_limit_hit(const ChildExit& exit) const {
  if (exit.signal == SIGKILL && cgroup_ && cgroup_->was_oom_killed()) {
    return make_failure(
        ErrorCode::kResourceExhausted,
        fmt::format("the kernel killed the job{} for lack of memory; raise the job's memory limit "
                    "or that of the worker",
                    in_stage()),
        stage_);
  }
  // The hard limit kills well above the soft one, whatever the account is off.
  const bool was_killed_for_cpu =
      exit.signal == SIGKILL && exit.cpu_time >= std::chrono::seconds(cpu_seconds_);
  if (cpu_seconds_ != 0 && (exit.signal == SIGXCPU || was_killed_for_cpu)) {
    return make_cpu_failure(cpu_seconds_, stage_);
  }
  return std::nullopt;
}

JobEnd JobProcess::describe_death(const ChildExit& exit) const {
  if (std::optional<v1::Failure> failure = find_limit_hit(exit)) {
    return *std::move(failure);
  }
  std::string text =
      exit.signal == 0
          ? fmt::format("ended with exit code {} and no result", exit.code)
          : fmt::format("died of signal {} ({})", exit.signal, ::sigdescr_np(exit.signal));
  text += in_stage();
  if (!protocol_failure_.empty()) {
    text += fmt::format("; its events could not be read: {}", protocol_failure_);
  }
  return JobCrash{.text = std::move(text), .stage = stage_};
}

}  // namespace onnxferry
