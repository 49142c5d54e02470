#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <variant>

#include "messages/codec.h"
#include "worker/kafka_client.h"
#include "worker/mailbox.h"
#include "worker/worker_config.h"

namespace onnxferry {

/// Reads the whole cancel topic on a thread of its own ("cancel"): every partition from its
/// beginning, without joining a group and without committing, then what comes.
///
/// What it reads arrives in events(), in order within a partition. A topic that does not exist, or
/// may not be read, is looked for again from time to time; partitions added later are read too.
/// Thread: events from the loop; the destructor waits for the thread (seconds).
class CancelReader {
 public:
  /// All records that stood in the topic have been delivered, or there is no topic.
  struct CaughtUp {};
  using Event = std::variant<messages::CancelRecord, CaughtUp>;

  /// \pre config.cancel_topic is not empty. \throws Error{kInvalidRequest} for a Kafka property
  explicit CancelReader(const WorkerConfig& config);
  ~CancelReader();
  CancelReader(const CancelReader&) = delete;
  CancelReader& operator=(const CancelReader&) = delete;

  Mailbox<Event>& events() { return events_; }

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  /// \return whether to go on
  bool wait(std::chrono::milliseconds limit);
  void look_for_topic();
  void assign(int partitions);
  void poll();
  void take(const rd_kafka_message_t& message);
  void tell_caught_up();

  std::string topic_;
  KafkaHandle consumer_;
  Mailbox<Event> events_;

  // Reader thread only.
  std::map<std::int32_t, std::int64_t> next_offsets_;  ///< of the assigned partitions
  std::set<std::int32_t> behind_;                      ///< those not read to their end yet
  Clock::time_point next_look_;
  bool told_absent_ = false;
  bool told_caught_up_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace onnxferry
