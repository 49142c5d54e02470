// The one commit path: which changes go into the next transaction, and what its outcome means.
#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "worker/log.h"
#include "worker/outgoing.h"
#include "worker/retry.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kRetryGroup{100};
constexpr milliseconds kRetryAbort{250};
constexpr milliseconds kRetryAbortMax{5'000};
constexpr std::size_t kMaxBatch = 32;
/// A topic that only grows by aborted transactions must not make as many of ours.
constexpr milliseconds kEndCommitInterval{1'000};

/// A committed change ends the job's spans.
void end_trace(Job& job, TraceOutcome outcome) {
  if (!job.trace) {
    return;
  }
  JobTrace::End end{.outcome = outcome, .error = {}, .task = {}, .model_type = {}};
  const v1::ExportReply* reply = job.reply ? &*job.reply : nullptr;
  const bool has_failed = reply != nullptr && reply->has_failure();
  if (reply != nullptr && !has_failed) {
    end.task = reply->result().task();
    end.model_type = reply->result().model_type();
  } else if (job.attempt > 0) {
    end.task = job.decoded.request.task();  // of a request that was found valid
  }
  if (has_failed) {
    end.error = v1::ErrorCode_Name(reply->failure().code());
  } else if (outcome == TraceOutcome::kMoved && job.retry_cause) {
    end.error = v1::ErrorCode_Name(job.retry_cause->code());
  }
  job.trace->end(end);
}

}  // namespace

std::vector<Job*> Worker::ready_jobs() {
  std::vector<Job*> ready;
  for (auto& [key, job] : jobs_) {
    const bool has_change = job->state == JobState::kRecording || job->state == JobState::kEnded ||
                            job->state == JobState::kMoving || job->state == JobState::kReleasing;
    if (has_change && find_partition(*job) != nullptr) {
      ready.push_back(job.get());
    }
  }
  // Those that were in fewest aborts first: one that cannot be committed must not starve the rest.
  std::ranges::stable_sort(ready, {}, &Job::aborts);
  return ready;
}

// The members that may commit, of those that have something to commit.
Worker::MemberCommits Worker::find_members(const std::vector<Job*>& ready,
                                           const std::map<TopicPartition, OffsetTracker>& ended) {
  std::set<std::string> topics;
  for (const Job* job : ready) {
    topics.insert(job->record.position.topic);
  }
  for (const auto& [name, tracker] : ended) {
    topics.insert(name.topic);
  }
  MemberCommits members;
  for (const std::string& topic : topics) {
    if (KafkaGroupMetadata group = consumers_.group_metadata(topic)) {
      members.emplace(topic, MemberCommit{.group = std::move(group), .partitions = {}});
    }
  }
  return members;
}

void Worker::publish_ready() {
  if (pending_ || !publisher_.is_idle() || Clock::now() < next_publish_) {
    return;
  }
  // The order matters (README.md, "Ownership"): rebalances were served above on this very thread,
  // so an epoch that holds now holds when the metadata is taken; a later change is the broker's to
  // refuse.
  std::vector<Job*> ready = ready_jobs();
  if (ready.empty()) {
    one_by_one_ = false;
  }
  std::map<TopicPartition, OffsetTracker> after =
      one_by_one_ ? decltype(after)() : ended_partitions();
  MemberCommits members = find_members(ready, after);
  std::erase_if(ready,
                [&](const Job* job) { return !members.contains(job->record.position.topic); });
  std::erase_if(after, [&](const auto& entry) { return !members.contains(entry.first.topic); });
  ready.resize(std::min(ready.size(), one_by_one_ ? 1 : kMaxBatch));
  if (ready.empty() && after.empty()) {
    return;
  }
  Transaction transaction;
  PendingTransaction pending{.id = next_transaction_++, .changes = {}, .offsets = {}, .reason = {}};
  for (Job* job : ready) {
    OffsetTracker& tracker =
        after.try_emplace(job->record.source(), find_partition(*job)->tracker).first->second;
    EXPORT_CHECK(job->epoch.has_value(), "an orphan in a transaction");
    pending.changes.push_back({job->key(), add_change(*job, transaction, tracker), *job->epoch});
    job->in_transaction = true;
  }
  for (const auto& [name, tracker] : after) {
    CommittedOffset commit = tracker.commit();
    EXPORT_CHECK(commit.offset.has_value(), "a commit without an offset");
    pending.offsets.push_back({name, *commit.offset, partitions_.at(name).epoch});
    members.at(name.topic).partitions.push_back({name, std::move(commit)});
  }
  for (auto& [topic, commit] : members) {
    if (!commit.partitions.empty()) {
      transaction.commits.push_back(std::move(commit));
    }
  }
  transaction.id = pending.id;
  next_end_commit_ = Clock::now() + kEndCommitInterval;
  pending_ = std::move(pending);
  publisher_.submit(std::move(transaction));
}

void Worker::add_reply(Job& job, Transaction& transaction) {
  if (job.trace) {
    job.decoded.envelope.traceparent = to_traceparent(job.trace->start_send());
  }
  std::vector<OutgoingRecord> records = make_outgoing(job, config_);
  if (job.trace) {
    job.trace->name_send(records.front().topic);
  }
  std::ranges::move(records, std::back_inserter(transaction.records));
}

Worker::Change Worker::add_change(Job& job, Transaction& transaction, OffsetTracker& tracker) {
  switch (job.state) {
    case JobState::kEnded:
      expire_result(job);
      tracker.complete(job.offset());
      add_reply(job, transaction);
      return Change::kReply;
    case JobState::kMoving:
      tracker.complete(job.offset());
      transaction.records.push_back(make_retry(
          job, config_, std::chrono::system_clock::now() + milliseconds(config_.retry_delay_ms)));
      return Change::kMove;
    case JobState::kReleasing:
      tracker.release_attempt(job.offset());
      return Change::kRelease;
    default:
      tracker.start_attempt(job.offset());
      return Change::kAttempt;
  }
}

// Partitions without work whose end the broker does not know to be done: behind the last record
// stand transaction markers or aborted records, or the group has never committed there. Without
// this their lag would never be zero.
std::map<TopicPartition, OffsetTracker> Worker::ended_partitions() const {
  std::map<TopicPartition, OffsetTracker> ended;
  if (drain_deadline_ || Clock::now() < next_end_commit_) {
    return ended;
  }
  for (const auto& [name, partition] : partitions_) {
    const std::optional<std::int64_t> low_water = partition.tracker.low_water();
    // An offset is more than none.
    if (partition.is_started && !partition.is_leaving() && low_water &&
        partition.tracker.in_flight() == 0 && low_water > partition.committed) {
      ended.emplace(name, partition.tracker);
    }
  }
  return ended;
}

void Worker::take_result(const TransactionResult& result) {
  if (!pending_ || pending_->id != result.id) {
    return;
  }
  clash_ = result.clash;
  pending_->reason = result.reason;
  if (result.outcome == TransactionOutcome::kUnknown && ask_for_outcome(*pending_)) {
    return;
  }
  const PendingTransaction pending = std::move(*pending_);
  pending_.reset();
  const bool is_committed = result.outcome == TransactionOutcome::kCommitted;
  std::map<JobKey, bool> committed;
  for (const PendingChange& change : pending.changes) {
    committed[change.job] = is_committed;
  }
  if (is_committed) {
    note_offsets(pending);
  } else {
    note_abort(pending, result);
  }
  settle(pending, committed);
  if (!is_committed) {
    stay_in_place(pending, result);
  }
}

bool Worker::ask_for_outcome(PendingTransaction& pending) {
  log(LogLevel::kWarn,
      "a commit's outcome is unknown; asking for the committed offsets",
      {{"reason", pending.reason}});
  std::vector<TopicPartition> partitions;
  for (const PendingChange& change : pending.changes) {
    const TopicPartition name{std::get<0>(change.job), std::get<1>(change.job)};
    const auto found = partitions_.find(name);
    const bool is_ours = found != partitions_.end() && found->second.epoch == change.epoch;
    if (is_ours && std::ranges::find(partitions, name) == partitions.end()) {
      partitions.push_back(name);
    }
  }
  if (partitions.empty()) {
    return false;
  }
  pending.ticket = next_epoch_++;
  committed_->ask(pending.ticket, std::move(partitions));
  return true;
}

void Worker::note_offsets(const PendingTransaction& pending) {
  for (const PendingTransaction::Offset& offset : pending.offsets) {
    const auto found = partitions_.find(offset.partition);
    if (found != partitions_.end() && found->second.epoch == offset.epoch) {
      found->second.committed = offset.offset;
    }
  }
}

void Worker::note_abort(const PendingTransaction& pending, const TransactionResult& result) {
  if (result.outcome == TransactionOutcome::kAbortedGroup) {
    next_publish_ = Clock::now() + kRetryGroup;
  } else if (result.outcome != TransactionOutcome::kAborted || !result.missing_topic.empty()) {
    return;  // a missing retry topic is no fault of the others in the batch: they go again at once
  } else {
    unsigned aborts = 0;
    for (const PendingChange& change : pending.changes) {
      if (const auto found = jobs_.find(change.job); found != jobs_.end()) {
        aborts = std::max(aborts, ++found->second->aborts);
      }
    }
    one_by_one_ = true;
    next_publish_ =
        Clock::now() + std::min(kRetryAbort * (1 << std::min(aborts, 10U)), kRetryAbortMax);
  }
  log(LogLevel::kWarn, fmt::format("transaction not committed: {}", result.reason));
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
      case Change::kMove:
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
    } else {
      cancel_if_asked(job);  // it was left alone while its transaction was on the way
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
      end_trace(job, TraceOutcome::kReplied);
      erase_job(job);
      return;
    case Change::kMove:
      if (partition != nullptr) {
        partition->tracker.complete(job.offset());
      } else {
        metrics_.orphan(OrphanFate::kAnswered);
      }
      metrics_.retry_moved();
      end_trace(job, TraceOutcome::kMoved);
      log(LogLevel::kInfo,
          "moved to the retry topic",
          {{"request_id", job.request_id()},
           {"topic", retry_topic_of(config_, job.origin.topic)},
           {"attempts", std::to_string(job.attempt)},
           {"delay_ms", std::to_string(config_.retry_delay_ms)}});
      erase_job(job);
      return;
    case Change::kAttempt:
      if (partition == nullptr) {
        return;
      }
      partition->tracker.start_attempt(job.offset());
      cancel_if_asked(job);
      if (job.state == JobState::kEnded) {
        return;
      }
      if (drain_deadline_ || partition->is_leaving()) {
        job.state = JobState::kReleasing;
      } else {
        spawn(job);
      }
      return;
    case Change::kRelease:
      if (partition != nullptr) {
        partition->tracker.release_attempt(job.offset());
      }
      end_trace(job, TraceOutcome::kReleased);
      erase_job(job);
      return;
  }
}

}  // namespace onnxferry
