#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "messages/codec.h"
#include "onnxferry/v1/job.pb.h"
#include "worker/kafka_client.h"
#include "worker/metrics.h"
#include "worker/worker_config.h"

namespace onnxferry {

/// What a job has reported last, and when it may be told to the outside again. Pure logic.
class ProgressState {
 public:
  using Clock = std::chrono::steady_clock;

  /// A new attempt begins.
  void reset() { *this = ProgressState(); }
  void note(const v1::JobEvent& event);
  /// Fill in stage, percent, bytes and waiting if there is news and the last event is a second old.
  /// \return whether an event is due
  bool take(Clock::time_point now, v1::ProgressEvent& event);

 private:
  v1::ProgressEvent current_;
  bool has_news_ = false;
  Clock::time_point next_;
};

/// Sends progress events with a producer of its own (a transaction would hide them until the end),
/// on a thread of its own ("progress"). Nothing here can fail or delay a job: what cannot be sent
/// is dropped and counted. A topic that does not exist means that nothing is sent; it is looked for
/// again from time to time. Thread: send from any.
class ProgressReporter {
 public:
  /// \pre config.progress_topic is not empty. \throws Error{kInvalidRequest} for a Kafka property
  ProgressReporter(const WorkerConfig& config, Metrics& metrics);
  ~ProgressReporter();
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;

  /// Never blocks. \pre event.time is set
  void send(v1::ProgressEvent event, const messages::Envelope& envelope);

 private:
  using Clock = std::chrono::steady_clock;
  struct Item {
    v1::ProgressEvent event;
    messages::Envelope envelope;
  };

  static void on_delivery(rd_kafka_t* handle,
                          const rd_kafka_message_t* message,
                          void* opaque) noexcept;
  void make_producer();
  void run();
  void look_for_topic();
  void produce(const Item& item);

  const WorkerConfig& config_;
  Metrics& metrics_;
  KafkaHandle producer_;

  // Reporter thread only.
  KafkaTopic topic_;
  bool exists_ = false;
  bool told_absent_ = false;
  Clock::time_point next_look_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;  // guarded by mutex_
  bool stopping_ = false;   // guarded by mutex_
  std::thread thread_;
};

}  // namespace onnxferry
