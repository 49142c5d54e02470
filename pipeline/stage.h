#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>

#include "pipeline/error.h"

namespace onnxferry {

struct StageTiming {
  Stage stage;
  std::chrono::milliseconds duration{0};
  std::uint64_t bytes = 0;
};

/// Sees a job from outside: progress, cancellation, outages. Implemented by the command line (a
/// progress bar) and by the job process (events to the worker). Thread: all calls come from the
/// job's main thread, except `is_cancelled`, `progress` and `waiting`, which transfer threads call
/// too.
class StageObserver {
 public:
  virtual ~StageObserver() = default;
  virtual void stage_started(Stage stage) = 0;
  virtual void stage_finished(const StageTiming& timing) = 0;
  /// `total` is 0 while unknown. Called often: the implementation limits its own rate.
  virtual void progress(Stage stage, std::uint64_t done, std::uint64_t total) = 0;
  /// A service is unavailable and the stage waits for it (`waiting` true) or has it back (false).
  virtual void waiting(Stage stage, bool waiting, std::string_view reason) = 0;
  [[nodiscard]] virtual bool is_cancelled() const = 0;
};

/// What running code sees of its stage: counts bytes, passes progress on, asks for cancellation.
/// Thread: any; transfer threads share one scope.
class StageScope {
 public:
  StageScope(Stage stage, StageObserver& observer) : stage_(stage), observer_(observer) {}

  [[nodiscard]] Stage stage() const { return stage_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  void set_total(std::uint64_t total) { total_ = total; }
  /// Count bytes moved and report progress. Throws Error{kCancelled} when the job was cancelled.
  void add_bytes(std::uint64_t count);
  void check_cancelled() const;
  void waiting(bool is_waiting, std::string_view reason) {
    observer_.waiting(stage_, is_waiting, reason);
  }

 private:
  Stage stage_;
  StageObserver& observer_;
  std::atomic<std::uint64_t> bytes_ = 0;
  std::atomic<std::uint64_t> total_ = 0;
};

/// Run one stage of a job. The only place that times a stage, checks for cancellation between
/// stages and names the stage in a passing Error; a foreign exception becomes Error{kInternal},
/// bad_alloc and a full disk become Error{kResourceExhausted}.
template <typename Function>
auto in_stage(Stage stage, StageObserver& observer, Function&& function);

namespace stage_detail {
[[noreturn]] void rethrow_as_error(Stage stage);
}

template <typename Function>
auto in_stage(Stage stage, StageObserver& observer, Function&& function) {
  StageScope scope(stage, observer);
  const auto start = std::chrono::steady_clock::now();
  const auto finish = [&] {
    const auto elapsed = std::chrono::steady_clock::now() - start;
    observer.stage_finished(
        {stage, std::chrono::duration_cast<std::chrono::milliseconds>(elapsed), scope.bytes()});
  };
  try {
    scope.check_cancelled();
    observer.stage_started(stage);
    if constexpr (std::is_void_v<decltype(function(scope))>) {
      std::forward<Function>(function)(scope);
      finish();
    } else {
      auto result = std::forward<Function>(function)(scope);
      finish();
      return result;
    }
  } catch (...) {
    stage_detail::rethrow_as_error(stage);
  }
}

}  // namespace onnxferry
