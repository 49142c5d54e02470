#pragma once

#include <vector>

#include "pipeline/stage.h"

namespace onnxferry {

/// Passes everything on and keeps the stages' timings for the report.
class TimedObserver : public StageObserver {
 public:
  explicit TimedObserver(StageObserver& next) : next_(next) {}

  void stage_started(Stage stage) override { next_.stage_started(stage); }
  void stage_finished(const StageTiming& timing) override {
    timings_.push_back(timing);
    next_.stage_finished(timing);
  }
  void progress(Stage stage, std::uint64_t done, std::uint64_t total) override {
    next_.progress(stage, done, total);
  }
  void waiting(Stage stage, bool waiting, std::string_view reason) override {
    next_.waiting(stage, waiting, reason);
  }
  [[nodiscard]] bool is_cancelled() const override { return next_.is_cancelled(); }

  [[nodiscard]] const std::vector<StageTiming>& timings() const { return timings_; }

 private:
  StageObserver& next_;
  std::vector<StageTiming> timings_;
};

}  // namespace onnxferry
