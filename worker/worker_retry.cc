// What becomes of an attempt that failed in a way that may pass: the retry topic, or a wait in
// place.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "worker/log.h"
#include "worker/outgoing.h"
#include "worker/retry.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

/// A broker that keeps refusing the move (its topic's max.message.bytes) must not hold it up.
constexpr unsigned kAbortsBeforeInPlace = 3;

bool expires_within(const Job& job, milliseconds wait) {
  return job.expires_at && system_clock::now() + wait >= *job.expires_at;
}

milliseconds backoff(const Job& job, const WorkerConfig& config) {
  const int doublings = static_cast<int>(std::min(job.attempt - 1, 20U));
  return milliseconds(
      std::min<std::int64_t>(static_cast<std::int64_t>(config.retry_backoff_ms) << doublings,
                             config.retry_backoff_max_ms));
}

}  // namespace

void Worker::retry_or_fail(Job& job, v1::Failure failure, std::string_view why) {
  if (job.attempt >= static_cast<unsigned>(config_.max_attempts)) {
    end_job(job, std::move(failure), DeadLetter::kYes);
    log_end(job);
    return;
  }
  log(LogLevel::kWarn,
      fmt::format("{}: {}", why, failure.message()),
      {{"request_id", job.request_id()},
       {"code", v1::ErrorCode_Name(failure.code())},
       {"attempt", std::to_string(job.attempt)}});
  job.retry_cause = std::move(failure);
  if (can_move(job)) {
    job.state = JobState::kMoving;
  } else {
    wait_in_place(job);
  }
}

bool Worker::can_move(const Job& job) const {
  const milliseconds delay(config_.retry_delay_ms);
  return !expires_within(job, delay) &&
         fits_broker(make_retry(job, config_, system_clock::now() + delay), config_);
}

// Holds its slot. May end or erase the job.
void Worker::wait_in_place(Job& job) {
  EXPORT_CHECK(job.retry_cause.has_value(), "a retry without a reason");
  if (is_leaving(job)) {
    erase_job(job);  // the attempt stays counted; another worker makes the next one
    return;
  }
  job.aborts = 0;
  const milliseconds wait = backoff(job, config_);
  if (expires_within(job, wait)) {
    v1::Failure failure = *std::exchange(job.retry_cause, std::nullopt);
    failure.set_message(failure.message() + "; expires_at leaves no time for another attempt");
    const bool crashed = failure.code() == v1::CRASHED;
    end_job(job, std::move(failure), crashed ? DeadLetter::kYes : DeadLetter::kNo);
    log_end(job);
    return;
  }
  job.state = JobState::kBackoff;
  job.backoff_until = Clock::now() + wait;
  log(LogLevel::kInfo,
      "the next attempt waits in place",
      {{"request_id", job.request_id()},
       {"attempt", std::to_string(job.attempt)},
       {"next_attempt_in_ms", std::to_string(wait.count())}});
}

// A move that was not committed, as its topic does not exist or as the broker keeps refusing it.
void Worker::stay_in_place(const PendingTransaction& pending, const TransactionResult& result) {
  for (const PendingChange& change : pending.changes) {
    const auto found = jobs_.find(change.job);
    if (change.change != Change::kMove || found == jobs_.end() ||
        found->second->state != JobState::kMoving || !found->second->epoch) {
      continue;
    }
    Job& job = *found->second;
    const bool is_missing = retry_topic_of(config_, job.origin.topic) == result.missing_topic;
    if (is_missing || job.aborts >= kAbortsBeforeInPlace) {
      wait_in_place(job);
    }
  }
}

}  // namespace onnxferry
