#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/broker_watch.h"
#include "worker/cancel_book.h"
#include "worker/cancel_reader.h"
#include "worker/committed_reader.h"
#include "worker/consumers.h"
#include "worker/event_loop.h"
#include "worker/health.h"
#include "worker/intake.h"
#include "worker/job.h"
#include "worker/job_cgroup.h"
#include "worker/metrics.h"
#include "worker/offset_tracker.h"
#include "worker/otlp_exporter.h"
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
class Worker : private ConsumerListener {
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
    bool is_loaded = false;          ///< the tracker holds the committed state
    bool is_started = false;         ///< records from its low water on may be taken
    Clock::time_point next_warning;  ///< when to tell that it is still not started
    /// Another member waits for it: nothing more of it starts.
    std::optional<Clock::time_point> leaving_since;
    OffsetTracker tracker;
    std::optional<std::int64_t> committed;  ///< by the broker's last word

    [[nodiscard]] bool is_leaving() const { return leaving_since.has_value(); }
  };

  /// What the transaction on its way will have done to a job.
  enum class Change : std::uint8_t { kAttempt, kReply, kMove, kRelease };
  struct PendingChange {
    JobKey job;
    Change change;
    std::uint64_t epoch;
  };
  struct PendingTransaction {
    struct Offset {
      TopicPartition partition;
      std::int64_t offset;
      std::uint64_t epoch;
    };
    std::uint64_t id = 0;
    std::vector<PendingChange> changes;
    std::vector<Offset> offsets;  ///< what it commits
    /// Not 0: its outcome is unknown; the answer with this ticket tells.
    std::uint64_t ticket = 0;
    std::string reason;
  };

  // worker.cc: the loop
  void poll_consumer();
  void take_record(Record record);
  static void log_arrival(const Job& job);
  void take_committed(const CommittedReader::Answer& answer);
  void start_partitions();
  void apply_pauses();
  void observe();
  void check_brokers() const;
  void begin_drain();
  void cancel_jobs();
  [[nodiscard]] bool is_drained() const;

  // worker_ownership.cc: which partitions are ours
  void on_assigned(std::span<const TopicPartition> partitions) override;
  bool may_give_up(std::span<const TopicPartition> partitions,
                   std::chrono::milliseconds limit) override;
  void on_revoked(std::span<const TopicPartition> partitions, Revocation kind) override;
  void on_end(const TopicPartition& partition, std::int64_t offset) override;
  Partition* find_partition(const Job& job);
  /// No further attempt of it starts here: the worker drains, or its partition is to be given up.
  [[nodiscard]] bool is_leaving(const Job& job);
  std::size_t make_orphans(const TopicPartition& partition);
  void forget_idle_jobs(const std::function<bool(const Job&)>& concerns);

  // worker_jobs.cc: attempts
  void start_waiting_jobs();
  [[nodiscard]] bool can_start_job() const;
  void begin_attempt(Job& job);
  void spawn(Job& job);
  v1::JobSpec make_spec(const Job& job) const;
  void on_job_event(Job& job, const v1::JobEvent& event);
  void on_job_end(Job& job, JobEnd end);
  void end_orphan(Job& job);
  void expire_result(Job& job);
  void tick_jobs();
  void report_progress(Job& job);
  void erase_job(Job& job);
  void log_end(const Job& job) const;

  // worker_retry.cc: the next attempt
  void retry_or_fail(Job& job, v1::Failure failure, std::string_view why);
  [[nodiscard]] bool can_move(const Job& job) const;
  void wait_in_place(Job& job);
  void stay_in_place(const PendingTransaction& pending, const TransactionResult& result);

  // worker_cancel.cc
  void take_cancels();
  void know_cancels();
  bool may_start_uncancelled();
  void cancel_if_asked(Job& job);
  void end_cancelled(Job& job, std::string_view stage);

  // worker_publish.cc: the one commit path
  void publish_ready();
  using MemberCommits = std::map<std::string, MemberCommit>;  ///< by topic
  std::vector<Job*> ready_jobs();
  MemberCommits find_members(const std::vector<Job*>& ready,
                             const std::map<TopicPartition, OffsetTracker>& ended);
  [[nodiscard]] std::map<TopicPartition, OffsetTracker> ended_partitions() const;
  void add_reply(Job& job, Transaction& transaction);
  Change add_change(Job& job, Transaction& transaction, OffsetTracker& tracker);
  void take_result(const TransactionResult& result);
  /// \return whether the answer is to be waited for; what is no longer ours is not asked for
  bool ask_for_outcome(PendingTransaction& pending);
  void note_offsets(const PendingTransaction& pending);
  void note_abort(const PendingTransaction& pending, const TransactionResult& result);
  void settle(const PendingTransaction& pending, const std::map<JobKey, bool>& committed);
  void confirm(Job& job, const PendingChange& change, Partition* partition);
  void resolve(const CommittedReader::Answer& answer);

  const WorkerConfig& config_;
  Metrics& metrics_;
  Health& health_;
  Intake intake_;
  EventLoop loop_;
  Scratch scratch_;
  std::unique_ptr<JobCgroups> cgroups_;  ///< null: jobs run in the worker's control group
  std::uint64_t next_epoch_ = 1;
  std::uint64_t next_sequence_ = 1;
  std::map<TopicPartition, Partition> partitions_;
  std::map<JobKey, std::unique_ptr<Job>> jobs_;
  std::optional<PendingTransaction> pending_;
  std::uint64_t next_transaction_ = 1;
  Clock::time_point next_publish_;
  Clock::time_point next_end_commit_;
  bool one_by_one_ = false;  ///< after an abort, so that one bad reply does not take others along
  std::string clash_;
  WakeUp stop_signal_;
  std::atomic<int> stop_requests_ = 0;
  std::optional<Clock::time_point> drain_deadline_;
  bool is_cancelling_ = false;
  CancelBook cancel_book_;
  bool are_cancels_known_ = false;  ///< the topic was read to its end, or is not there
  std::optional<Clock::time_point> cancel_wait_until_;
  // Threads last: they end first.
  Consumers consumers_;
  std::unique_ptr<BrokerWatch> broker_watch_;  ///< null: off
  std::unique_ptr<CommittedReader> committed_;
  std::unique_ptr<CancelReader> cancel_reader_;  ///< null: off
  TransactionPublisher publisher_;
  std::unique_ptr<ProgressReporter> progress_;  ///< null: off
  std::unique_ptr<OtlpExporter> exporter_;      ///< null: off
  std::optional<Tracer> tracer_;                ///< with the exporter
};

}  // namespace onnxferry
