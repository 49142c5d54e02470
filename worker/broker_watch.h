#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "worker/kafka_handles.h"

namespace onnxferry {

/// A thread ("brokers") that asks the brokers something small again and again, to know for how long
/// none of them has answered.
///
/// librdkafka connects again by itself, but below 2.10 only to the addresses it knows: when all
/// brokers have moved, or a client is stuck for any other reason, nothing but a new process helps.
/// Thread: any.
class BrokerWatch {
 public:
  /// \param handle  outlives this
  /// \param limit   what silence() is to be compared with; decides how often is asked
  BrokerWatch(rd_kafka_t* handle, std::chrono::milliseconds limit);
  /// Waits for the question on its way, a few seconds at most.
  ~BrokerWatch();
  BrokerWatch(const BrokerWatch&) = delete;
  BrokerWatch& operator=(const BrokerWatch&) = delete;

  /// Time since a broker has answered, or since the start.
  [[nodiscard]] std::chrono::milliseconds silence() const;

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  void ask();

  rd_kafka_t* handle_;
  std::chrono::milliseconds pause_;
  std::atomic<Clock::time_point> last_answer_ = Clock::now();
  bool is_warned_ = false;  ///< of the thread
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;  ///< guarded by mutex_
  std::thread thread_;
};

}  // namespace onnxferry
