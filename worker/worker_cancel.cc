// Cancelling requests: what the cancel topic says, applied to the jobs of this worker.
#include <fmt/format.h>

#include "worker/log.h"
#include "worker/reply.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

/// A worker that cannot read the cancel topic must not stand still for it.
constexpr std::chrono::seconds kMaxCancelWait{30};

v1::Failure cancel_failure(const std::string& reason, std::string_view stage) {
  return make_failure(
      ErrorCode::kCancelled,
      fmt::format("cancelled {}{}{}",
                  stage.empty() ? "before the first stage" : "while the job ran; it was stopped",
                  reason.empty() ? "" : "; reason given: ",
                  reason),
      stage);
}

}  // namespace

void Worker::take_cancels() {
  for (const CancelReader::Event& event : cancel_reader_->events().take()) {
    const auto* record = std::get_if<messages::CancelRecord>(&event);
    if (record == nullptr) {
      know_cancels();
      continue;
    }
    if (const std::string forgotten = cancel_book_.note(*record); !forgotten.empty()) {
      log(LogLevel::kWarn,
          "too many cancelled requests to remember; the oldest is forgotten",
          {{"request_id", forgotten}, {"remembered", std::to_string(cancel_book_.size())}});
    }
    for (auto& [key, job] : jobs_) {
      if (job->request_id() == record->request_id) {
        cancel_if_asked(*job);
      }
    }
  }
}

void Worker::know_cancels() {
  are_cancels_known_ = true;
  for (auto& [key, job] : jobs_) {
    cancel_if_asked(*job);
  }
}

bool Worker::may_start_uncancelled() {
  if (!cancel_wait_until_) {
    cancel_wait_until_ = Clock::now() + kMaxCancelWait;  // from the first job on
  }
  if (!are_cancels_known_ && Clock::now() > *cancel_wait_until_) {
    know_cancels();
    log(LogLevel::kWarn,
        "the cancel topic could not be read to its end in time; jobs start without knowing all "
        "cancels",
        {{"topic", config_.cancel_topic}});
  }
  return are_cancels_known_;
}

// Before the topic was read to its end a cancel may still be taken back by a later record; nothing
// runs then. What has its answer keeps it. An orphan is its new owner's, and checked when it is
// adopted again.
void Worker::cancel_if_asked(Job& job) {
  const bool is_open = are_cancels_known_ && job.epoch && job.state != JobState::kEnded &&
                       job.state != JobState::kReleasing && !job.in_transaction;
  const std::optional<std::string> reason =
      is_open ? cancel_book_.find(job.request_id(), job.sent_ms()) : std::nullopt;
  if (!reason) {
    return;
  }
  if (!job.process) {
    end_cancelled(job, "");
    return;
  }
  if (job.stop_reason == StopReason::kNone) {
    log(LogLevel::kInfo, "stopping a cancelled job", {{"request_id", job.request_id()}});
    job.stop_reason = StopReason::kCancelled;
    job.process->stop(std::chrono::milliseconds(config_.kill_grace_ms));
  }
}

void Worker::end_cancelled(Job& job, std::string_view stage) {
  const std::string reason = cancel_book_.find(job.request_id(), job.sent_ms()).value_or("");
  end_job(job, cancel_failure(reason, stage), DeadLetter::kNo);
  log_end(job);
}

}  // namespace onnxferry
