#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "messages/headers.h"
#include "worker/kafka_client.h"
#include "worker/mailbox.h"
#include "worker/metrics.h"
#include "worker/offset_tracker.h"
#include "worker/worker_config.h"

namespace onnxferry {

struct OutgoingRecord {
  std::string topic;
  /// Where it goes when `topic` does not exist; empty: it is left out then, with an ERROR line.
  std::string fallback_topic;
  std::optional<std::int32_t> partition;
  std::optional<std::string> key;
  std::optional<std::string> value;
  messages::Headers headers;
};

struct PartitionCommit {
  TopicPartition partition;
  CommittedOffset state;
};

/// One commit: all of it becomes visible, or nothing.
struct Transaction {
  std::uint64_t id = 0;
  std::vector<OutgoingRecord> records;  ///< replies and dead letters; none when an attempt starts
  std::vector<PartitionCommit> commits;
  KafkaGroupMetadata group;
};

enum class TransactionOutcome : std::uint8_t {
  kCommitted,
  kAborted,       ///< nothing happened; ours to try again
  kAbortedGroup,  ///< nothing happened, as the group has moved on: check ownership first
  kUnknown,       ///< read the committed offsets: they alone say what happened
};

struct TransactionResult {
  std::uint64_t id = 0;
  TransactionOutcome outcome = TransactionOutcome::kUnknown;
  std::string reason;
  std::string clash;  ///< not empty: another process uses our transactional.id; end this one
};

/// The one commit path: a thread ("publish") that owns the transactional producer.
///
/// One transaction at a time: submit(), then its result arrives in results(). The error ladder is
/// in README.md. Reply topics are resolved by metadata before the transaction begins, since a
/// missing one would abort the whole batch after transaction.timeout.ms.
/// Thread: one caller (the poll loop).
class Publisher {
 public:
  Publisher(const WorkerConfig& config, std::string transactional_id, Metrics& metrics);
  /// Ends after the step in progress; an open transaction is aborted by its time limit or by the
  /// next process with this id.
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  /// \pre is_idle()
  void submit(Transaction transaction);
  /// No transaction is on its way. Its result may still stand in the mailbox.
  [[nodiscard]] bool is_idle() const;
  /// Wait until idle, for the revoke callback.
  bool wait_idle(std::chrono::milliseconds limit);
  Mailbox<TransactionResult>& results() { return results_; }

 private:
  using Clock = std::chrono::steady_clock;
  /// How a step of the ladder ended.
  enum class Step : std::uint8_t { kDone, kAbort, kFatal };
  struct StepResult {
    Step step = Step::kDone;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    std::string reason;
  };

  void run();
  [[nodiscard]] bool is_stopping() const;
  std::optional<Transaction> next_transaction();
  void wait_for_producer();
  bool init_transactions(rd_kafka_t* handle) const;
  bool ensure_producer();
  void drop_producer(std::string_view why);
  TransactionResult publish(Transaction& transaction);
  StepResult open_and_fill(Transaction& transaction);
  StepResult produce(const OutgoingRecord& record);
  StepResult send_offsets(const Transaction& transaction);
  template <typename Function>
  StepResult climb(std::string_view what, Function&& call);
  /// Replace topics that do not exist. \return a reason to wait, empty when all is resolved
  std::string resolve_topics(Transaction& transaction);
  /// Partition count; 0: the topic does not exist or may not be used; nullopt: nobody answered
  std::optional<int> find_topic(const std::string& topic);
  std::string note_fence();

  const WorkerConfig& config_;
  std::string transactional_id_;
  Metrics& metrics_;
  Mailbox<TransactionResult> results_;

  // Publisher thread only.
  struct KnownTopic {
    KafkaTopic handle;  ///< kept open: the first use of a topic costs a second in 2.0.2
    int partitions = 0;
    Clock::time_point checked;
  };
  KafkaHandle producer_;
  std::map<std::string, KnownTopic> topics_;
  std::deque<Clock::time_point> fences_;
  bool repeated_ = false;
  bool had_producer_ = false;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Transaction> next_;  // guarded by mutex_
  bool busy_ = false;                // guarded by mutex_
  bool stopping_ = false;            // guarded by mutex_
  std::thread thread_;
};

}  // namespace onnxferry
