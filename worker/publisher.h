#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "worker/kafka_client.h"
#include "worker/mailbox.h"
#include "worker/metrics.h"
#include "worker/topic_resolver.h"
#include "worker/transaction.h"
#include "worker/worker_config.h"

namespace onnxferry {

/// The one commit path: a thread ("publish") that owns the transactional producer.
///
/// One transaction at a time: submit(), then its result arrives in results(). The error ladder is
/// in README.md. Topics are resolved before the transaction begins (TopicResolver).
/// Thread: one caller (the poll loop).
class TransactionPublisher {
 public:
  TransactionPublisher(const WorkerConfig& config, std::string transactional_id, Metrics& metrics);
  /// Ends after the step in progress; an open transaction is aborted by its time limit or by the
  /// next process with this id.
  ~TransactionPublisher();
  TransactionPublisher(const TransactionPublisher&) = delete;
  TransactionPublisher& operator=(const TransactionPublisher&) = delete;

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
  std::string note_fence();

  const WorkerConfig& config_;
  std::string transactional_id_;
  Metrics& metrics_;
  Mailbox<TransactionResult> results_;

  // TransactionPublisher thread only.
  KafkaHandle producer_;
  TopicResolver topics_;  ///< after the producer: its handles must end first
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
