#include "worker/progress_reporter.h"

#include <gtest/gtest.h>

namespace onnxferry {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

v1::JobEvent progress(std::uint64_t done, std::uint64_t total) {
  v1::JobEvent event;
  event.mutable_progress()->set_stage("download");
  event.mutable_progress()->set_done(done);
  event.mutable_progress()->set_total(total);
  return event;
}

class Progress : public testing::Test {
 protected:
  /// The event that is due now, as "stage percent done/total", or "-".
  std::string take(milliseconds after = milliseconds(0)) {
    now_ += after;
    v1::ProgressEvent event;
    if (!state_.take(now_, event)) {
      return "-";
    }
    return event.stage() + " " +
           (event.has_percent() ? std::to_string(static_cast<int>(event.percent())) : "?") + " " +
           std::to_string(event.bytes_done()) + "/" + std::to_string(event.bytes_total()) +
           (event.waiting() ? " waiting: " + event.reason() : "");
  }

  ProgressState state_;
  ProgressState::Clock::time_point now_ = ProgressState::Clock::now();
};

TEST_F(Progress, IsToldOnceASecondWithTheLatestNews) {
  EXPECT_EQ(take(), "-");
  state_.note(progress(1, 10));
  EXPECT_EQ(take(), "download 10 1/10");
  EXPECT_EQ(take(seconds(5)), "-") << "nothing new";
  state_.note(progress(2, 10));
  EXPECT_EQ(take(), "download 20 2/10");
  state_.note(progress(3, 10));
  state_.note(progress(4, 10));
  EXPECT_EQ(take(milliseconds(999)), "-");
  EXPECT_EQ(take(milliseconds(1)), "download 40 4/10");
}

TEST_F(Progress, HasNoPercentWithoutATotal) {
  state_.note(progress(7, 0));
  EXPECT_EQ(take(), "download ? 7/0");
  state_.note(progress(12, 10));
  EXPECT_EQ(take(seconds(1)), "download 100 12/10") << "a size that grew is no 120 percent";
}

TEST_F(Progress, StartsEachStageAnew) {
  state_.note(progress(10, 10));
  v1::JobEvent started;
  started.mutable_stage_started()->set_stage("extract");
  state_.note(started);
  EXPECT_EQ(take(), "extract ? 0/0");
}

TEST_F(Progress, SaysWhatAStageWaitsFor) {
  state_.note(progress(1, 2));
  v1::JobEvent event;
  event.mutable_waiting()->set_stage("download");
  event.mutable_waiting()->set_waiting(true);
  event.mutable_waiting()->set_reason("503");
  state_.note(event);
  EXPECT_EQ(take(), "download 50 1/2 waiting: 503");
  event.mutable_waiting()->set_waiting(false);
  state_.note(event);
  EXPECT_EQ(take(seconds(1)), "download 50 1/2");
}

}  // namespace
}  // namespace onnxferry
