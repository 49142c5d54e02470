#include "worker/local_job.h"

#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <unistd.h>

#include "worker/environment.h"

namespace onnxferry {
namespace {

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free, "written by a signal handler");

void on_interrupt(int signal) {
  interrupted = true;
  std::signal(signal, SIG_DFL);  // a second one ends the program at once
}

class ConsoleObserver : public StageObserver {
 public:
  ConsoleObserver() : is_terminal_(isatty(STDERR_FILENO) == 1) {
    std::signal(SIGINT, on_interrupt);
    std::signal(SIGTERM, on_interrupt);
  }

  void stage_started(Stage stage) override { draw(stage, 0, 0); }

  void stage_finished(const StageTiming& timing) override {
    const std::string clear = is_terminal_ ? "\r\033[K" : "";
    fmt::print(stderr,
               "{}{:<9}{:>10}{:>10.2f} s\n",
               clear,
               to_string(timing.stage),
               human_bytes(timing.bytes),
               static_cast<double>(timing.duration.count()) / 1000);
  }

  void progress(Stage stage, std::uint64_t done, std::uint64_t total) override {
    constexpr std::chrono::milliseconds kInterval{100};
    const auto now = std::chrono::steady_clock::now();
    auto last = last_drawn_.load();
    if (is_terminal_ && now - last > kInterval && last_drawn_.compare_exchange_strong(last, now)) {
      draw(stage, done, total);
    }
  }

  void waiting(Stage stage, bool waiting, std::string_view reason) override {
    fmt::print(stderr, "{}: {}: {}\n", to_string(stage), waiting ? "waiting" : "going on", reason);
  }

  [[nodiscard]] bool is_cancelled() const override { return interrupted; }

 private:
  void draw(Stage stage, std::uint64_t done, std::uint64_t total) const {
    if (!is_terminal_) {
      return;
    }
    constexpr std::size_t kWidth = 30;
    const std::size_t filled =
        total == 0
            ? 0
            : static_cast<std::size_t>(std::min<std::uint64_t>(done * kWidth / total, kWidth));
    fmt::print(stderr,
               "\r\033[K{:<9}[{}{}] {}",
               to_string(stage),
               std::string(filled, '#'),
               std::string(kWidth - filled, ' '),
               human_bytes(done));
    std::fflush(stderr);
  }

  bool is_terminal_;
  std::atomic<std::chrono::steady_clock::time_point> last_drawn_{};
};

}  // namespace

std::unique_ptr<StageObserver> make_console_observer() {
  return std::make_unique<ConsoleObserver>();
}

ScratchDirectory::ScratchDirectory(const std::filesystem::path& parent) {
  std::filesystem::create_directories(parent);
  std::string name = (parent / ".onnxferry-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    throw std::filesystem::filesystem_error(
        "cannot make a scratch directory", parent, std::error_code(errno, std::generic_category()));
  }
  path_ = name;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;  // nothing is left to do about it
  std::filesystem::remove_all(path_, ignored);
}

RuntimeChoice choose_runtime(const std::string& asked, const std::string& library) {
  RuntimeChoice choice;
  if (!asked.empty()) {
    const auto level = find_verify_level(asked);
    if (!level) {
      throw Error(
          ErrorCode::kInvalidRequest,
          fmt::format("verify level {} is unknown; use none, structure, load, run or full", asked),
          "verify");
    }
    choice.level = *level;
  }
  if (choice.level <= VerifyLevel::kStructure) {
    return choice;
  }
  const std::string path =
      library.empty() ? process_environment("ONNXFERRY_ONNXRUNTIME").value_or("") : library;
  try {
    choice.runtime = OnnxRuntime::load(path);
  } catch (const Error& error) {
    if (!asked.empty() || !path.empty()) {
      throw;
    }
    choice.level = VerifyLevel::kStructure;
    choice.note = fmt::format("only the structure is verified: {}", error.message());
  }
  return choice;
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array<std::string_view, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  constexpr double kStep = 1000;
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= kStep && unit + 1 < kUnits.size()) {
    value /= kStep;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.2f} {}", value, kUnits.at(unit));
}

}  // namespace onnxferry
