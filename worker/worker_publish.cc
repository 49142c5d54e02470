// The one commit path: which changes go into the next transaction, and what its outcome means.
#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "worker/log.h"
#include "worker/outgoing.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRetryGroup{100};
constexpr milliseconds kRetryAbort{250};
constexpr milliseconds kRetryAbortMax{5'000};
constexpr std::size_t kMaxBatch = 32;

}  // namespace

std::vector<Job*> Worker::ready_jobs() {
  std::vector<Job*> ready;
  for (auto& [key, job] : jobs_) {
    const bool has_change = job->state == JobState::kRecording || job->state == JobState::kEnded ||
                            job->state == JobState::kReleasing;
    if (has_change && find_partition(*job) != nullptr) {
      ready.push_back(job.get());
    }
  }
  // Those that were in fewest aborts first: one that cannot be committed must not starve the rest.
  std::ranges::stable_sort(ready, {}, &Job::aborts);
  ready.resize(std::min(ready.size(), one_by_one_ ? 1 : kMaxBatch));
  return ready;
}

void Worker::publish_ready() {
  if (pending_ || !publisher_.is_idle() || Clock::now() < next_publish_) {
    return;
  }
  // The order matters (README.md, "Ownership"): rebalances were served above on this very thread,
  // so an epoch that holds now holds when the metadata is taken; a later change is the broker's to
  // refuse.
  const std::vector<Job*> ready = ready_jobs();
  if (ready.empty()) {
    one_by_one_ = false;
    return;
  }
  Transaction transaction;
  transaction.group = consumer_.group_metadata();
  if (!transaction.group) {
    return;
  }
  PendingTransaction pending{.id = next_transaction_++, .changes = {}, .reason = {}};
  std::map<TopicPartition, OffsetTracker> after;
  for (Job* job : ready) {
    OffsetTracker& tracker =
        after.try_emplace(job->record.source(), find_partition(*job)->tracker).first->second;
    Change change = Change::kAttempt;
    if (job->state == JobState::kEnded) {
      change = Change::kReply;
      tracker.complete(job->offset());
      std::ranges::move(make_outgoing(*job, config_), std::back_inserter(transaction.records));
    } else if (job->state == JobState::kReleasing) {
      change = Change::kRelease;
      tracker.release_attempt(job->offset());
    } else {
      tracker.start_attempt(job->offset());
    }
    EXPORT_CHECK(job->epoch.has_value(), "an orphan in a transaction");
    job->in_transaction = true;
    pending.changes.push_back({job->key(), change, *job->epoch});
  }
  for (const auto& [name, tracker] : after) {
    transaction.commits.push_back({name, tracker.commit()});
  }
  transaction.id = pending.id;
  pending_ = std::move(pending);
  publisher_.submit(std::move(transaction));
}

void Worker::take_result(const TransactionResult& result) {
  if (!pending_ || pending_->id != result.id) {
    return;
  }
  clash_ = result.clash;
  pending_->reason = result.reason;
  if (result.outcome == TransactionOutcome::kUnknown) {
    log(LogLevel::kWarn,
        "a commit's outcome is unknown; asking for the committed offsets",
        {{"reason", result.reason}});
    std::vector<TopicPartition> partitions;
    for (const PendingChange& change : pending_->changes) {
      const TopicPartition name{std::get<0>(change.job), std::get<1>(change.job)};
      const auto found = partitions_.find(name);
      const bool is_ours = found != partitions_.end() && found->second.epoch == change.epoch;
      if (is_ours && std::ranges::find(partitions, name) == partitions.end()) {
        partitions.push_back(name);
      }
    }
    if (!partitions.empty()) {
      pending_->ticket = next_epoch_++;
      committed_->ask(pending_->ticket, std::move(partitions));
      return;
    }
  }
  const PendingTransaction pending = std::move(*pending_);
  pending_.reset();
  const bool is_committed = result.outcome == TransactionOutcome::kCommitted;
  if (result.outcome == TransactionOutcome::kAbortedGroup) {
    next_publish_ = Clock::now() + kRetryGroup;
  }
  std::map<JobKey, bool> committed;
  unsigned aborts = 0;
  for (const PendingChange& change : pending.changes) {
    committed[change.job] = is_committed;
    const auto found = jobs_.find(change.job);
    if (found != jobs_.end() && result.outcome == TransactionOutcome::kAborted) {
      aborts = std::max(aborts, ++found->second->aborts);
    }
  }
  if (result.outcome == TransactionOutcome::kAborted) {
    one_by_one_ = true;
    next_publish_ =
        Clock::now() + std::min(kRetryAbort * (1 << std::min(aborts, 10U)), kRetryAbortMax);
  }
  if (!is_committed) {
    log(LogLevel::kWarn, fmt::format("transaction not committed: {}", result.reason));
  }
  settle(pending, committed);
}

// The answer to an unknown outcome. A change is in the committed state or it is not; nobody else
// can have put it there while the partition is ours.
void Worker::resolve(const CommittedReader::Answer& answer) {
  if (!pending_ || pending_->ticket == 0 || pending_->ticket != answer.ticket) {
    return;
  }
  const PendingTransaction pending = std::move(*pending_);
  pending_.reset();
  std::map<JobKey, bool> committed;
  for (const PendingChange& change : pending.changes) {
    const auto& [topic, number, offset] = change.job;
    const TopicPartition name{topic, number};
    const auto state = answer.offsets.find(name);
    const auto partition = partitions_.find(name);
    if (state == answer.offsets.end() || partition == partitions_.end()) {
      continue;
    }
    const OffsetTracker stored(state->second);
    const unsigned before = partition->second.tracker.attempts(offset);
    switch (change.change) {
      case Change::kReply:
        committed[change.job] = stored.is_done(offset);
        break;
      case Change::kAttempt:
        committed[change.job] = stored.attempts(offset) > before;
        break;
      case Change::kRelease:
        committed[change.job] = stored.attempts(offset) < before;
        break;
    }
  }
  const auto done =
      std::ranges::count_if(committed, [](const auto& entry) { return entry.second; });
  log(LogLevel::kInfo,
      "the committed offsets tell",
      {{"changes", std::to_string(committed.size())}, {"committed", std::to_string(done)}});
  settle(pending, committed);
}

void Worker::settle(const PendingTransaction& pending, const std::map<JobKey, bool>& committed) {
  for (const PendingChange& change : pending.changes) {
    const auto found = jobs_.find(change.job);
    const auto outcome = committed.find(change.job);
    const bool is_committed = outcome != committed.end() && outcome->second;
    const TopicPartition name{std::get<0>(change.job), std::get<1>(change.job)};
    const auto partition = partitions_.find(name);
    const bool is_ours = partition != partitions_.end() && partition->second.epoch == change.epoch;
    // A job that came anew under another epoch has nothing to do with this transaction.
    if (found == jobs_.end() || !found->second->in_transaction) {
      continue;
    }
    Job& job = *found->second;
    job.in_transaction = false;
    if (is_committed) {
      confirm(job, change, is_ours ? &partition->second : nullptr);
    }
  }
}

void Worker::confirm(Job& job, const PendingChange& change, Partition* partition) {
  switch (change.change) {
    case Change::kReply:
      EXPORT_CHECK(job.reply.has_value(), "a committed reply that is gone");
      if (partition != nullptr) {
        partition->tracker.complete(job.offset());
      } else {
        metrics_.orphan(OrphanFate::kAnswered);
      }
      metrics_.job_answered(job.reply->has_failure()
                                ? v1::ErrorCode_Name(job.reply->failure().code())
                                : std::string());
      if (!job.dead_letter_code.empty()) {
        metrics_.dead_letter(job.dead_letter_code);
      }
      log(LogLevel::kInfo, "reply sent", {{"request_id", job.request_id()}});
      erase_job(job);
      return;
    case Change::kAttempt:
      if (partition == nullptr) {
        return;
      }
      partition->tracker.start_attempt(job.offset());
      if (drain_deadline_) {
        job.state = JobState::kReleasing;
      } else {
        spawn(job);
      }
      return;
    case Change::kRelease:
      if (partition != nullptr) {
        partition->tracker.release_attempt(job.offset());
      }
      erase_job(job);
      return;
  }
}

}  // namespace onnxferry
