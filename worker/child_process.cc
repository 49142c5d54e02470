#include "worker/child_process.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

// Where the parent keeps the child's ends, clear of 0 to 3, until the child moves them there.
constexpr int kFirstSpareDescriptor = 10;
constexpr int kEventsDescriptor = 3;
constexpr int kSpawnFailed = 127;

[[noreturn]] void throw_errno(std::string_view what) {
  const int error = errno;
  throw Error(
      ErrorCode::kResourceExhausted,
      fmt::format(
          "cannot start a job process: {}: {}", what, std::system_category().message(error)));
}

struct Pipe {
  Descriptor read_end;
  Descriptor write_end;
};

Descriptor move_up(int descriptor) {
  const Descriptor original(descriptor);
  Descriptor moved(::fcntl(descriptor, F_DUPFD_CLOEXEC, kFirstSpareDescriptor));
  if (moved.get() < 0) {
    throw_errno("fcntl");
  }
  return moved;
}

/// Only our end is non-blocking: the flag belongs to the open file, and each end is its own.
Pipe make_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    throw_errno("pipe2");
  }
  Pipe pipe{Descriptor(ends[0]), move_up(ends[1])};
  ::fcntl(pipe.read_end.get(), F_SETFL, O_NONBLOCK);
  return pipe;
}

/// A memory file: unlike a pipe it takes a request of any size without a reader.
Descriptor make_input(std::string_view bytes) {
  const int descriptor = ::memfd_create("job-input", MFD_CLOEXEC);
  if (descriptor < 0) {
    throw_errno("memfd_create");
  }
  Descriptor input = move_up(descriptor);
  while (!bytes.empty()) {
    const ssize_t count = ::write(input.get(), bytes.data(), bytes.size());
    if (count < 0) {
      throw_errno("write");
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  ::lseek(input.get(), 0, SEEK_SET);
  return input;
}

/// glibc 2.36 declares pidfd_open without C linkage, so C++ cannot link its wrapper.
Descriptor open_pidfd(pid_t pid) {
  return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

struct ChildSetup {
  char* const* arguments;
  pid_t parent;
  int input;
  int events;
  int output;
  std::uint64_t memory_bytes;
  std::uint64_t cpu_seconds;
  int cgroup_procs;
};

/// Never above what already holds: raising that would be refused, and nothing would be limited.
void limit(int resource, rlim_t soft, rlim_t hard) {
  const auto which = static_cast<__rlimit_resource>(resource);
  rlimit bound{};
  ::getrlimit(which, &bound);
  bound.rlim_max = std::min(hard, bound.rlim_max);
  bound.rlim_cur = std::min(soft, bound.rlim_max);
  ::setrlimit(which, &bound);
}

// Between fork and exec in a process with threads: only async-signal-safe calls.
[[noreturn]] void become_child(const ChildSetup& setup) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != setup.parent) {
    ::_exit(kSpawnFailed);  // the parent died before the death signal was armed
  }
  if (setup.cgroup_procs >= 0) {
    (void)!::write(setup.cgroup_procs, "0", 1);
  }
  ::dup2(setup.input, STDIN_FILENO);
  ::dup2(setup.output, STDOUT_FILENO);
  ::dup2(setup.output, STDERR_FILENO);
  ::dup2(setup.events, kEventsDescriptor);
  ::close_range(kEventsDescriptor + 1, ~0U, 0);
  limit(RLIMIT_CORE, 0, 0);
  if (setup.memory_bytes != 0) {
    limit(RLIMIT_DATA, setup.memory_bytes, setup.memory_bytes);
  }
  if (setup.cpu_seconds != 0) {
    limit(RLIMIT_CPU, setup.cpu_seconds, setup.cpu_seconds + ChildProcess::kCpuGraceSeconds);
  }
  const int score = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (score >= 0) {
    (void)!::write(score, "1000", 4);
    ::close(score);
  }
  struct sigaction defaults{};
  defaults.sa_handler = SIG_DFL;
  for (const int number : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGXCPU}) {
    ::sigaction(number, &defaults, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(setup.arguments[0], setup.arguments);
  constexpr std::string_view kMessage = "cannot execute the job program\n";
  (void)!::write(STDERR_FILENO, kMessage.data(), kMessage.size());
  ::_exit(kSpawnFailed);
}

std::chrono::milliseconds to_milliseconds(const timeval& time) {
  return std::chrono::seconds(time.tv_sec) + std::chrono::duration_cast<std::chrono::milliseconds>(
                                                 std::chrono::microseconds(time.tv_usec));
}

}  // namespace

Descriptor::~Descriptor() {
  if (value_ >= 0) {
    ::close(value_);
  }
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    const Descriptor old(std::exchange(value_, other.release()));
  }
  return *this;
}

int Descriptor::release() {
  return std::exchange(value_, -1);
}

ChildProcess::ChildProcess(const Options& options) {
  const Descriptor input = make_input(options.input);
  Pipe events = make_pipe();
  Pipe output = make_pipe();
  std::vector<std::string> command = options.command;
  std::vector<char*> arguments;
  for (std::string& argument : command) {
    arguments.push_back(argument.data());
  }
  arguments.push_back(nullptr);
  const ChildSetup setup{.arguments = arguments.data(),
                         .parent = ::getpid(),
                         .input = input.get(),
                         .events = events.write_end.get(),
                         .output = output.write_end.get(),
                         .memory_bytes = options.memory_bytes,
                         .cpu_seconds = options.cpu_seconds,
                         .cgroup_procs = options.cgroup_procs};
  pid_ = ::fork();
  if (pid_ < 0) {
    throw_errno("fork");
  }
  if (pid_ == 0) {
    become_child(setup);
  }
  ::setpgid(pid_, pid_);  // whoever comes first: the group must exist before it is signalled
  events_ = std::move(events.read_end);
  log_ = std::move(output.read_end);
  pidfd_ = open_pidfd(pid_);
  if (pidfd_.get() < 0) {
    const int error = errno;
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    errno = error;
    throw_errno("pidfd_open");
  }
}

ChildProcess::~ChildProcess() {
  if (!reaped_) {
    signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
}

void ChildProcess::signal(int number) const {
  if (!reaped_) {
    ::kill(-pid_, number);
  }
}

std::optional<ChildExit> ChildProcess::try_wait() {
  siginfo_t info{};
  // Look first, reap later: while the process is a zombie its group id cannot be reused.
  if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid == 0) {
    return std::nullopt;
  }
  signal(SIGKILL);
  int status = 0;
  rusage usage{};
  ::wait4(pid_, &status, 0, &usage);
  reaped_ = true;
  ChildExit exit;
  exit.cpu_time = to_milliseconds(usage.ru_utime) + to_milliseconds(usage.ru_stime);
  if (WIFSIGNALED(status)) {
    exit.signal = WTERMSIG(status);
  } else {
    exit.code = WEXITSTATUS(status);
  }
  return exit;
}

}  // namespace onnxferry
