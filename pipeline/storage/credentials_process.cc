// credential_process: a program of the operator's that prints a credentials document.
// Source: AWS CLI user guide, "Sourcing credentials with an external process".
#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "pipeline/storage/credentials_source.h"

namespace onnxferry {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxOutputBytes = 64U << 10U;
constexpr std::chrono::milliseconds kExitPoll{5};

Error failed(std::string_view program, std::string_view why) {
  return {ErrorCode::kUnavailable,
          fmt::format("no S3 credentials: credential_process \"{}\" {}; run it by hand to see more",
                      program,
                      why)};
}

class SpawnActions {
 public:
  SpawnActions() { posix_spawn_file_actions_init(&actions_); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
  ~SpawnActions() { posix_spawn_file_actions_destroy(&actions_); }
  posix_spawn_file_actions_t* get() { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

/// A running program and the reading end of its standard output; killed if it is left running.
class Program {
 public:
  explicit Program(std::vector<std::string> command) : name_(command.front()) {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      throw failed(name_, "could not be started: no pipe");
    }
    output_ = ends[0];
    const int error = spawn(command, ends[1]);
    ::close(ends[1]);
    if (error != 0) {
      ::close(output_);
      throw failed(name_,
                   fmt::format("could not be started: {}", std::generic_category().message(error)));
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    ::close(output_);
    if (!has_ended_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  /// Everything it prints until it closes its output.
  std::string read_output(Clock::time_point deadline) {
    std::string text;
    std::array<char, 4096> buffer{};
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      pollfd wanted{.fd = output_, .events = POLLIN, .revents = 0};
      const int ready = left.count() > 0 ? ::poll(&wanted, 1, static_cast<int>(left.count())) : 0;
      if (ready == 0) {
        throw failed(name_, "did not end in time");
      }
      const ssize_t got = ready > 0 ? ::read(output_, buffer.data(), buffer.size()) : -1;
      if (got == 0) {
        return text;
      }
      if (got < 0 && errno != EINTR) {
        throw failed(name_, "could not be read");
      }
      text.append(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
      if (text.size() > kMaxOutputBytes) {
        throw failed(name_, fmt::format("printed more than {} bytes", kMaxOutputBytes));
      }
    }
  }

  void check_exit(Clock::time_point deadline) {
    int status = 0;
    while (::waitpid(pid_, &status, WNOHANG) == 0) {
      if (Clock::now() >= deadline) {
        throw failed(name_, "did not end in time");
      }
      std::this_thread::sleep_for(kExitPoll);
    }
    has_ended_ = true;
    if (WIFSIGNALED(status)) {
      throw failed(name_, fmt::format("died of signal {}", WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) != 0) {
      throw failed(name_, fmt::format("ended with exit code {}", WEXITSTATUS(status)));
    }
  }

 private:
  /// Its errors go nowhere: they may hold secrets, and ours are logged. It stays in our process
  /// group, so that it is killed with a job that is.
  int spawn(std::vector<std::string>& command, int output) {
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (std::string& argument : command) {
      arguments.push_back(argument.data());
    }
    arguments.push_back(nullptr);
    SpawnActions actions;
    posix_spawn_file_actions_addopen(actions.get(), STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(actions.get(), output, STDOUT_FILENO);
    posix_spawn_file_actions_addopen(actions.get(), STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    // Inherited as by any child; nothing here looks into it.
    return ::posix_spawnp(&pid_, arguments[0], actions.get(), nullptr, arguments.data(), ::environ);
  }

  std::string name_;
  pid_t pid_ = -1;
  int output_ = -1;
  bool has_ended_ = false;
};

}  // namespace

std::optional<std::vector<std::string>> split_command(std::string_view command) {
  std::vector<std::string> words;
  std::string word;
  bool has_word = false;  // an empty pair of quotes is a word too
  char quote = '\0';
  for (std::size_t i = 0; i < command.size(); ++i) {
    const char c = command[i];
    const bool is_blank = quote == '\0' && (c == ' ' || c == '\t');
    const bool is_escape = c == '\\' && quote != '\'' && i + 1 < command.size() &&
                           (quote == '\0' || command[i + 1] == '"' || command[i + 1] == '\\');
    if (is_blank && has_word) {
      words.push_back(std::exchange(word, {}));
    }
    has_word = !is_blank;
    if (is_escape) {
      word += command[++i];
    } else if (quote != '\0' && c == quote) {
      quote = '\0';
    } else if (quote == '\0' && (c == '"' || c == '\'')) {
      quote = c;
    } else if (!is_blank) {
      word += c;
    }
  }
  if (has_word) {
    words.push_back(word);
  }
  return quote == '\0' ? std::optional(words) : std::nullopt;
}

FetchCredentials process_fetcher(const std::string& command, std::chrono::milliseconds timeout) {
  const std::optional<std::vector<std::string>> words = split_command(command);
  if (!words || words->empty()) {
    throw Error(ErrorCode::kPermissionDenied,
                "no S3 credentials: the profile's credential_process is empty or has a quote that "
                "is not closed");
  }
  return [words = *words, timeout] {
    const auto deadline = Clock::now() + timeout;
    Program program(words);
    const std::string output = program.read_output(deadline);
    program.check_exit(deadline);
    const nlohmann::json document =
        nlohmann::json::parse(output, nullptr, /*allow_exceptions=*/false);
    if (!document.is_object() || document.value("Version", nlohmann::json()) != 1) {
      throw failed(words.front(), "did not print a JSON object with \"Version\": 1");
    }
    return parse_credentials_json(output, "SessionToken", "credential_process");
  };
}

}  // namespace onnxferry
