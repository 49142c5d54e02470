#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace onnxferry {

/// An owned file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : value_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return value_; }
  int release();

 private:
  int value_;
};

struct ChildExit {
  int code = 0;    ///< exit code, when it exited
  int signal = 0;  ///< 0: it exited
  std::chrono::milliseconds cpu_time{0};
};

/// A process in its own group that cannot outlive this one: it has a parent-death signal, which
/// follows the *thread* that spawned it. So spawn only from a thread that lives as long as the
/// process. All other descriptors are closed in it, signals are at their defaults, it leaves no
/// core file and is the first that the kernel's out-of-memory killer takes.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> command;  ///< path and arguments
    std::string input;                 ///< its stdin
    std::uint64_t memory_bytes = 0;    ///< RLIMIT_DATA (RLIMIT_AS would count mappings of files)
    /// RLIMIT_CPU: SIGXCPU then, and SIGKILL kCpuGraceSeconds of CPU time later. 0: none
    std::uint64_t cpu_seconds = 0;
    int cgroup_procs = -1;  ///< cgroup.procs of the control group to run in; -1: the worker's
  };

  static constexpr std::uint64_t kCpuGraceSeconds = 10;

  /// \throws Error{kResourceExhausted} when there are no more processes or descriptors
  explicit ChildProcess(const Options& options);
  /// Kills and reaps what is left of the group.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int exit_descriptor() const { return pidfd_.get(); }     ///< readable at its end
  [[nodiscard]] int events_descriptor() const { return events_.get(); }  ///< its descriptor 3
  [[nodiscard]] int log_descriptor() const { return log_.get(); }        ///< its stdout and stderr

  /// Signal the whole group.
  void signal(int number) const;
  /// Reap it. \return nullopt while it runs
  std::optional<ChildExit> try_wait();

 private:
  pid_t pid_ = -1;
  bool reaped_ = false;
  Descriptor pidfd_;
  Descriptor events_;
  Descriptor log_;
};

}  // namespace onnxferry
