#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "worker/kafka_client.h"
#include "worker/mailbox.h"
#include "worker/offset_tracker.h"

namespace onnxferry {

/// Reads committed offsets with their metadata on a thread of its own: under read_committed the
/// answer waits for open transactions, up to transaction.timeout.ms when their owner is dead.
///
/// Use: ask(); the answer arrives in results() once. A question that cannot be answered (brokers
/// away) is asked again until it can or a newer question replaces it.
/// Thread: ask and results from the loop; the destructor waits for the thread.
class CommittedReader {
 public:
  struct Answer {
    std::uint64_t ticket = 0;
    std::map<TopicPartition, CommittedOffset> offsets;
  };

  /// \param handle  a consumer; outlives this
  explicit CommittedReader(rd_kafka_t* handle);
  ~CommittedReader();
  CommittedReader(const CommittedReader&) = delete;
  CommittedReader& operator=(const CommittedReader&) = delete;

  void ask(std::uint64_t ticket, std::vector<TopicPartition> partitions);
  /// Forget every open question.
  void cancel();
  Mailbox<Answer>& results() { return results_; }

 private:
  struct Question {
    std::uint64_t ticket = 0;
    std::vector<TopicPartition> partitions;
  };
  void run();
  [[nodiscard]] std::optional<Answer> read(const Question& question) const;

  rd_kafka_t* handle_;
  Mailbox<Answer> results_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Question> questions_;  // guarded by mutex_
  bool stopping_ = false;           // guarded by mutex_
  std::thread thread_;
};

}  // namespace onnxferry
