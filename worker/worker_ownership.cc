// Which partitions are ours, and what becomes of their jobs when that changes.
#include <algorithm>
#include <utility>

#include "worker/log.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

/// A revoke waits so long for a transaction on its way: it would be aborted, the job done again.
constexpr milliseconds kRevokeWait{2'000};
constexpr milliseconds kSlowStart{10'000};
constexpr milliseconds kWarnEvery{60'000};

std::string elapsed_ms(std::chrono::steady_clock::time_point since) {
  const auto elapsed = std::chrono::steady_clock::now() - since;
  return std::to_string(std::chrono::duration_cast<milliseconds>(elapsed).count());
}

}  // namespace

Worker::Partition* Worker::find_partition(const Job& job) {
  const auto found = partitions_.find(job.record.source());
  return found != partitions_.end() && job.epoch == found->second.epoch ? &found->second : nullptr;
}

void Worker::on_assigned(std::span<const TopicPartition> partitions) {
  metrics_.rebalanced(RebalanceKind::kAssign);
  const std::uint64_t epoch = next_epoch_++;
  std::string names;
  for (const TopicPartition& partition : partitions) {
    partitions_[partition] =
        Partition{.epoch = epoch, .next_warning = Clock::now() + kSlowStart, .tracker = {}};
    names += (names.empty() ? "" : ",") + to_string(partition);
  }
  log(LogLevel::kInfo, "partitions assigned", {{"partitions", names}});
  if (!partitions.empty() && committed_) {
    committed_->ask(epoch, {partitions.begin(), partitions.end()});
  }
}

void Worker::start_partitions() {
  for (auto& [name, partition] : partitions_) {
    if (partition.is_loaded && !partition.is_started) {
      partition.is_started = consumers_.start(name, partition.tracker.low_water());
    }
    // Its lag grows and nothing else tells why.
    if (!partition.is_started && Clock::now() > partition.next_warning) {
      partition.next_warning = Clock::now() + kWarnEvery;
      log(LogLevel::kWarn,
          "an assigned partition is not read yet",
          {{"partition", to_string(name)},
           {"reason",
            partition.is_loaded ? "librdkafka does not accept its offset"
                                : "its committed offset cannot be read; the group's coordinator "
                                  "does not answer, or a dead worker's transaction is open"}});
    }
  }
}

bool Worker::is_leaving(const Job& job) {
  const Partition* partition = find_partition(job);
  return drain_deadline_ || (partition != nullptr && partition->is_leaving());
}

// What has no process and no answer comes again, here or elsewhere; its attempts stay counted.
void Worker::forget_idle_jobs(const std::function<bool(const Job&)>& concerns) {
  std::vector<JobKey> idle;
  for (const auto& [key, job] : jobs_) {
    const bool is_idle = job->state == JobState::kWaiting || job->state == JobState::kBackoff ||
                         (job->state == JobState::kRecording && !job->in_transaction);
    if (is_idle && concerns(*job)) {
      idle.push_back(key);
    }
  }
  for (const JobKey& key : idle) {
    erase_job(*jobs_.at(key));
  }
}

bool Worker::may_give_up(std::span<const TopicPartition> partitions, milliseconds limit) {
  bool is_new = false;
  for (const TopicPartition& name : partitions) {
    Partition& partition = partitions_.at(name);
    is_new = is_new || !partition.is_leaving();
    partition.leaving_since = partition.leaving_since.value_or(Clock::now());
  }
  const auto concerns = [&](const Job& job) {
    return job.epoch && std::ranges::find(partitions, job.record.source()) != partitions.end();
  };
  forget_idle_jobs(concerns);
  const auto busy =
      std::ranges::count_if(jobs_, [&](const auto& entry) { return concerns(*entry.second); });
  if (is_new && busy > 0) {
    log(LogLevel::kInfo,
        "partitions are to move to another worker; they stay until their jobs have ended",
        {{"count", std::to_string(partitions.size())},
         {"jobs", std::to_string(busy)},
         {"at_most_ms", std::to_string(limit.count())}});
  }
  return busy == 0;
}

void Worker::on_revoked(std::span<const TopicPartition> partitions, Revocation kind) {
  const bool lost = kind == Revocation::kLost;
  metrics_.rebalanced(lost ? RebalanceKind::kLost : RebalanceKind::kRevoke);
  const auto is_concerned = [&](const TopicPartition& name) {
    return std::ranges::find(partitions, name) != partitions.end();
  };
  const bool is_committing =
      pending_ &&
      std::ranges::any_of(pending_->offsets, is_concerned, &PendingTransaction::Offset::partition);
  if (!lost && is_committing) {
    publisher_.wait_idle(kRevokeWait);
    for (const TransactionResult& result : publisher_.results().take()) {
      take_result(result);
    }
  }
  std::optional<Clock::time_point> leaving_since;
  std::size_t orphans = 0;
  for (const TopicPartition& name : partitions) {
    if (const auto found = partitions_.find(name); found != partitions_.end()) {
      leaving_since = leaving_since ? leaving_since : found->second.leaving_since;
      partitions_.erase(found);
    }
    orphans += make_orphans(name);
  }
  const std::string waited_ms = leaving_since ? elapsed_ms(*leaving_since) : "0";
  if (leaving_since) {
    metrics_.handed_over(orphans > 0 ? HandoverEnd::kCut : HandoverEnd::kDone);
  }
  if (leaving_since && orphans > 0 && !lost) {
    log(LogLevel::kWarn,
        "running jobs did not end in time for a hand-over; other workers run them again",
        {{"jobs", std::to_string(orphans)}, {"waited_ms", waited_ms}});
  }
  log(lost ? LogLevel::kWarn : LogLevel::kInfo,
      lost ? "partitions lost" : "partitions revoked",
      {{"count", std::to_string(partitions.size())},
       {"jobs_kept", std::to_string(jobs_.size())},
       {"waited_ms", waited_ms}});
}

// Their record may be delivered here again. \return how many there are
std::size_t Worker::make_orphans(const TopicPartition& partition) {
  std::size_t orphans = 0;
  std::vector<JobKey> forgotten;
  for (auto& [key, job] : jobs_) {
    if (job->record.source() != partition || !job->epoch) {
      continue;
    }
    job->epoch.reset();
    job->orphan_deadline = Clock::now() + milliseconds(config_.readopt_grace_ms);
    // Without a process or an answer there is nothing to adopt; the record will come again.
    const bool is_worth_it = job->state == JobState::kRunning || job->state == JobState::kEnded ||
                             job->state == JobState::kMoving;
    if (is_worth_it) {
      ++orphans;
    } else {
      forgotten.push_back(key);
    }
  }
  for (const JobKey& key : forgotten) {
    erase_job(*jobs_.at(key));
  }
  return orphans;
}

// While draining, records are not taken: what stands below may still be somebody's work.
void Worker::on_end(const TopicPartition& partition, std::int64_t offset) {
  const auto found = partitions_.find(partition);
  if (found != partitions_.end() && found->second.is_started && !found->second.is_leaving() &&
      !drain_deadline_) {
    found->second.tracker.reach_end(offset);
  }
}

}  // namespace onnxferry
