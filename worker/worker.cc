#include "worker/worker.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "pipeline/weights_cache.h"
#include "worker/environment.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTick{100};
constexpr milliseconds kCloseLimit{10'000};
// A pause throws fetched records away and a resume takes up to a second in 2.0.2, so short jobs
// must not pause: some records may wait here. Requests are at most 1 MiB each.
constexpr std::size_t kPauseAbove = 16;
constexpr std::size_t kResumeBelow = 4;

std::string transactional_id(const WorkerConfig& config, int slot) {
  std::string host = process_environment("POD_NAME").value_or("");
  if (host.empty()) {
    host = host_name();  // not client.id: a fleet may share one, and then fence itself
  }
  return fmt::format("{}-{}-{}", config.group, host, slot);
}

}  // namespace

Worker::Worker(const WorkerConfig& config, Metrics& metrics, Health& health)
    : config_(config),
      metrics_(metrics),
      health_(health),
      intake_(config),
      scratch_(config.scratch),
      cgroups_(make_job_cgroups(config)),
      consumers_(config, *this),
      committed_(std::make_unique<CommittedReader>(consumers_.handle())),
      publisher_(config, transactional_id(config, scratch_.slot()), metrics) {
  for (const int descriptor : consumers_.descriptors()) {
    loop_.add(descriptor, [this] { consumers_.clear_wake_ups(); });
  }
  loop_.add(stop_signal_.descriptor(), [this] { stop_signal_.clear(); });
  loop_.add(publisher_.results().descriptor(), [this] {
    for (const TransactionResult& result : publisher_.results().take()) {
      take_result(result);
    }
  });
  loop_.add(committed_->results().descriptor(), [this] {
    for (const CommittedReader::Answer& answer : committed_->results().take()) {
      take_committed(answer);
      resolve(answer);
    }
  });
  are_cancels_known_ = config.cancel_topic.empty();
  if (!are_cancels_known_) {
    cancel_reader_ = std::make_unique<CancelReader>(config);
    loop_.add(cancel_reader_->events().descriptor(), [this] { take_cancels(); });
  }
  if (!config.progress_topic.empty()) {
    progress_ = std::make_unique<ProgressReporter>(config, metrics);
  }
  if (config.broker_outage_limit_ms > 0) {
    broker_watch_ = std::make_unique<BrokerWatch>(consumers_.handle(),
                                                  milliseconds(config.broker_outage_limit_ms));
  }
  if (!traces_url(config.tracing).empty()) {
    exporter_ = std::make_unique<OtlpExporter>(config.tracing, metrics);
    tracer_.emplace(Tracer{.sink = *exporter_, .group = config.group});
  }
  log(LogLevel::kInfo,
      "worker started",
      {{"group", config.group},
       {"transactional_id", transactional_id(config, scratch_.slot())},
       {"librdkafka", rd_kafka_version_str()}});
}

Worker::~Worker() = default;

void Worker::stop() {
  ++stop_requests_;
  stop_signal_.signal();
}

void Worker::run() {
  while (!is_drained()) {
    loop_.turn(kTick);
    if (stop_requests_ >= 1 && !drain_deadline_) {
      begin_drain();
    }
    if (stop_requests_ >= 2 || (drain_deadline_ && Clock::now() > *drain_deadline_)) {
      cancel_jobs();
    }
    poll_consumer();
    start_partitions();
    tick_jobs();
    start_waiting_jobs();
    publish_ready();
    apply_pauses();
    observe();
    check_brokers();
    if (!clash_.empty()) {
      throw Error(ErrorCode::kUnavailable, clash_);
    }
  }
  broker_watch_.reset();
  committed_->cancel();
  if (!consumers_.close(kCloseLimit)) {
    log(LogLevel::kWarn, "leaving the group took too long; the brokers will notice by themselves");
  }
  committed_.reset();
  log(LogLevel::kInfo, "worker stopped");
}

void Worker::poll_consumer() {
  health_.last_poll_ms = Health::now_ms();
  metrics_.poll_turn();
  consumers_.check();
  while (std::optional<Record> record = consumers_.poll()) {
    take_record(std::move(*record));
    apply_pauses();
  }
  health_.group_joined = consumers_.has_joined();
}

void Worker::take_record(Record record) {
  const auto found = partitions_.find(record.source());
  if (found == partitions_.end() || !found->second.is_started || found->second.is_leaving() ||
      drain_deadline_) {
    return;  // not ours, or not any more: it stays uncommitted
  }
  Partition& partition = found->second;
  const std::int64_t offset = record.position.offset;
  if (partition.tracker.deliver(offset) == OffsetTracker::Admission::kDuplicate) {
    metrics_.duplicate_dropped();
    return;
  }
  const auto known = jobs_.find({record.position.topic, record.position.partition, offset});
  if (known != jobs_.end()) {
    Job& orphan = *known->second;
    orphan.epoch = partition.epoch;
    metrics_.orphan(OrphanFate::kReadopted);
    log(LogLevel::kInfo,
        "job taken up again after a rebalance",
        {{"request_id", orphan.request_id()}});
    cancel_if_asked(orphan);
    return;
  }
  std::unique_ptr<Job> job = intake_.admit(std::move(record), std::chrono::system_clock::now());
  if (tracer_) {
    job->trace = JobTrace::begin(*tracer_, job->record.position, job->decoded.envelope);
  }
  job->epoch = partition.epoch;
  job->sequence = next_sequence_++;
  if (!job->decoded.problems.empty()) {
    metrics_.undecodable_request();
  }
  log_arrival(*job);
  if (job->state == JobState::kEnded) {
    log_end(*job);
  }
  const auto added = jobs_.emplace(job->key(), std::move(job)).first;
  cancel_if_asked(*added->second);
}

void Worker::log_arrival(const Job& job) {
  const messages::RecordPosition& position = job.record.position;
  if (job.attempts_before == 0) {
    log(LogLevel::kInfo,
        "request received",
        {{"request_id", job.request_id()},
         {"topic", position.topic},
         {"partition", std::to_string(position.partition)},
         {"offset", std::to_string(position.offset)}});
    return;
  }
  const auto wait = std::chrono::ceil<milliseconds>(job.due - Clock::now());
  log(LogLevel::kInfo,
      "request received again for its next attempt",
      {{"request_id", job.request_id()},
       {"topic", position.topic},
       {"partition", std::to_string(position.partition)},
       {"offset", std::to_string(position.offset)},
       {"attempts_before", std::to_string(job.attempts_before)},
       {"due_in_ms", std::to_string(std::max<std::int64_t>(0, wait.count()))}});
}

void Worker::take_committed(const CommittedReader::Answer& answer) {
  for (const auto& [name, committed] : answer.offsets) {
    const auto found = partitions_.find(name);
    if (found != partitions_.end() && found->second.epoch == answer.ticket &&
        !found->second.is_loaded) {
      found->second.tracker = OffsetTracker(committed);
      found->second.committed = committed.offset;
      found->second.is_loaded = true;
    }
  }
}

void Worker::apply_pauses() {
  std::map<TopicPartition, std::size_t> unanswered;
  std::set<TopicPartition> early;  // the records behind an early one are due later still
  const Clock::time_point now = Clock::now();
  for (const auto& [key, job] : jobs_) {
    ++unanswered[job->record.source()];
    if (job->is_early(now)) {
      early.insert(job->record.source());
    }
  }
  metrics_.retry_partitions_waiting(early.size());
  for (const auto& [name, partition] : partitions_) {
    const std::size_t count = unanswered[name];
    if (!partition.is_started || partition.is_leaving() || drain_deadline_ ||
        partition.tracker.is_full() || early.contains(name) || count >= kPauseAbove) {
      consumers_.set_paused(name, true);
    } else if (count <= kResumeBelow) {
      consumers_.set_paused(name, false);
    }
  }
}

void Worker::observe() {
  std::int64_t window = 0;
  std::size_t metadata = 0;
  for (const auto& [name, partition] : partitions_) {
    if (partition.tracker.low_water()) {
      window = std::max(window, partition.tracker.window());
      metadata = std::max(metadata, partition.tracker.commit().metadata.size());
    }
  }
  metrics_.offsets(window, metadata);
  metrics_.partitions(partitions_.size(), consumers_.paused_count());
  metrics_.partitions_leaving(static_cast<std::size_t>(std::ranges::count_if(
      partitions_, [](const auto& entry) { return entry.second.is_leaving(); })));
  const auto running = std::ranges::count_if(
      jobs_, [](const auto& entry) { return entry.second->process != nullptr; });
  metrics_.jobs_in_flight(static_cast<std::size_t>(running));
  std::uint64_t free = scratch_.free_bytes();
  if (free < config_.min_scratch_bytes && config_.weights_cache_bytes > 0) {
    WeightsCache(weights_cache_directory(config_), config_.weights_cache_bytes, "")
        .make_room(config_.min_scratch_bytes);
    free = scratch_.free_bytes();
  }
  metrics_.scratch_free(free);
  health_.scratch_ok = free >= config_.min_scratch_bytes;
}

// A process that runs may still be of use: brokers that come back let its result through. Without
// one there is nothing to lose, and new connections are all that is left to try.
void Worker::check_brokers() const {
  const milliseconds limit(config_.broker_outage_limit_ms);
  const bool has_process = std::ranges::any_of(
      jobs_, [](const auto& entry) { return entry.second->process != nullptr; });
  if (!broker_watch_ || broker_watch_->silence() < limit || has_process || drain_deadline_) {
    return;
  }
  throw Error(
      ErrorCode::kUnavailable,
      fmt::format("no broker of {} has answered for {} s; ending, so that whatever supervises this "
                  "process starts it anew with new connections (--broker-outage-limit-ms)",
                  config_.brokers,
                  broker_watch_->silence().count() / 1000));
}

// Stop taking; what runs may end and is published.
void Worker::begin_drain() {
  drain_deadline_ = Clock::now() + milliseconds(config_.drain_grace_ms);
  health_.draining = true;
  forget_idle_jobs([](const Job&) { return true; });
  for (auto& [key, job] : jobs_) {
    if (!job->epoch && job->process) {
      job->stop_reason = StopReason::kOrphaned;
      job->process->stop(milliseconds(config_.kill_grace_ms));
    }
  }
  log(LogLevel::kInfo, "draining", {{"jobs", std::to_string(jobs_.size())}});
}

void Worker::cancel_jobs() {
  if (std::exchange(is_cancelling_, true)) {
    return;
  }
  log(LogLevel::kWarn, "cancelling the jobs that still run; another worker will do them");
  drain_deadline_ = std::min(drain_deadline_.value_or(Clock::now()), Clock::now());
  for (auto& [key, job] : jobs_) {
    if (job->process && job->stop_reason == StopReason::kNone) {
      job->stop_reason = StopReason::kDrained;
      job->process->stop(milliseconds(config_.kill_grace_ms));
    }
  }
}

bool Worker::is_drained() const {
  if (!drain_deadline_) {
    return false;
  }
  // Once cancelling, an answer that cannot be committed (brokers away) is left to the next owner.
  const bool is_late = Clock::now() > *drain_deadline_ + milliseconds(config_.kill_grace_ms) * 2;
  const bool has_process = std::ranges::any_of(
      jobs_, [](const auto& entry) { return entry.second->process != nullptr; });
  const bool has_answer =
      std::ranges::any_of(jobs_, [](const auto& entry) { return entry.second->epoch.has_value(); });
  return !has_process && ((!has_answer && !pending_) || is_late);
}

}  // namespace onnxferry
