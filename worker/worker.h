#pragma once

#include <atomic>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/committed_reader.h"
#include "worker/consumer.h"
#include "worker/event_loop.h"
#include "worker/health.h"
#include "worker/intake.h"
#include "worker/job.h"
#include "worker/metrics.h"
#include "worker/offset_tracker.h"
#include "worker/publisher.h"
#include "worker/scratch.h"
#include "worker/worker_config.h"

namespace onnxferry {

/// The queue worker: one loop over the consumer, job processes, transaction results and timers.
///
/// Lifecycle: construct, run() until stop() or a fatal error, destroy. See README.md for the
/// picture, the commit path and the order of shutdown.
/// Thread: construct, run and destroy on the same thread, which must live as long as the process
/// (job processes die with it); stop() from any thread.
class Worker : private RebalanceListener {
 public:
  Worker(const WorkerConfig& config, Metrics& metrics, Health& health);
  ~Worker() override;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Work until told to stop. \throws Error when it cannot go on (clash of ids, fatal consumer)
  void run();

  /// First call: drain. Second: cancel what runs, then leave. Thread: any.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;

  struct Partition {
    std::uint64_t epoch = 0;
    bool is_loaded = false;   ///< the tracker holds the committed state
    bool is_started = false;  ///< records from its low water on may be taken
    OffsetTracker tracker;
  };

  /// What the transaction on its way will have done to a job.
  enum class Change : std::uint8_t { kAttempt, kReply, kRelease };
  struct PendingChange {
    JobKey job;
    Change change;
    std::uint64_t epoch;
  };
  struct PendingTransaction {
    std::uint64_t id = 0;
    std::vector<PendingChange> changes;
    /// Not 0: its outcome is unknown; the answer with this ticket tells.
    std::uint64_t ticket = 0;
    std::string reason;
  };

  // worker.cc: the loop and ownership
  void on_assigned(std::span<const TopicPartition> partitions) override;
  void on_revoked(std::span<const TopicPartition> partitions, Revocation kind) override;
  void poll_consumer();
  void take_record(Record record);
  void take_committed(const CommittedReader::Answer& answer);
  void start_partitions();
  void apply_pauses();
  void observe();
  void begin_drain();
  void cancel_jobs();
  [[nodiscard]] bool is_drained() const;
  Partition* find_partition(const Job& job);

  // worker_jobs.cc: attempts
  void start_waiting_jobs();
  [[nodiscard]] bool can_start_job() const;
  void begin_attempt(Job& job);
  void spawn(Job& job);
  v1::JobSpec make_spec(const Job& job) const;
  void on_job_event(Job& job, const v1::JobEvent& event);
  void on_job_end(Job& job, JobEnd end);
  void end_orphan(const Job& job);
  void retry_or_fail(Job& job, v1::Failure failure, std::string_view why);
  void tick_jobs();
  void erase_job(const Job& job);
  void log_end(const Job& job) const;

  // worker_publish.cc: the one commit path
  void publish_ready();
  std::vector<Job*> ready_jobs();
  void take_result(const TransactionResult& result);
  void settle(const PendingTransaction& pending, const std::map<JobKey, bool>& committed);
  void confirm(Job& job, const PendingChange& change, Partition* partition);
  void resolve(const CommittedReader::Answer& answer);

  const WorkerConfig& config_;
  Metrics& metrics_;
  Health& health_;
  Intake intake_;
  EventLoop loop_;
  Scratch scratch_;
  std::uint64_t next_epoch_ = 1;
  std::uint64_t next_sequence_ = 1;
  std::map<TopicPartition, Partition> partitions_;
  std::map<JobKey, std::unique_ptr<Job>> jobs_;
  std::optional<PendingTransaction> pending_;
  std::uint64_t next_transaction_ = 1;
  Clock::time_point next_publish_;
  bool one_by_one_ = false;  ///< after an abort, so that one bad reply does not take others along
  std::string clash_;
  WakeUp stop_signal_;
  std::atomic<int> stop_requests_ = 0;
  std::optional<Clock::time_point> drain_deadline_;
  bool is_cancelling_ = false;
  // Threads last: they end first.
  Consumer consumer_;
  std::unique_ptr<CommittedReader> committed_;
  Publisher publisher_;
};

}  // namespace onnxferry
