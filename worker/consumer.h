#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "worker/kafka_client.h"
#include "worker/mailbox.h"
#include "worker/worker_config.h"

namespace onnxferry {

enum class Revocation : std::uint8_t { kRevoked, kLost };

/// Learns about ownership and the ends of partitions. Called inside Consumer::poll and close.
class ConsumerListener {
 public:
  virtual ~ConsumerListener() = default;
  /// These partitions are ours, paused, and not to be read before `Consumer::start`.
  virtual void on_assigned(std::span<const TopicPartition> partitions) = 0;
  /// These are not ours any more once this returns. kLost: another worker may own them already.
  virtual void on_revoked(std::span<const TopicPartition> partitions, Revocation kind) = 0;
  /// Every record below this offset has been returned by poll: the next one will be here or later.
  virtual void on_end(const TopicPartition& partition, std::int64_t offset) = 0;
};

/// The group membership: reads records and follows rebalances; never commits.
///
/// Works around librdkafka 2.0.2: it keeps its own set of paused partitions, as resuming one that
/// is not paused rewinds it, and pauses each new partition itself, as the library's pause flag
/// survives a revoke but a new partition has none.
/// Thread: one, but for `handle()`, which may be given to rd_kafka_committed on another thread.
class Consumer {
 public:
  Consumer(const WorkerConfig& config, ConsumerListener& listener);
  ~Consumer();
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;

  /// Readable when there is something to poll.
  [[nodiscard]] int descriptor() const { return wake_up_.descriptor(); }
  void clear_wake_up() const { wake_up_.clear(); }

  /// Serve rebalances and the next record, without waiting. Nothing when the queue is empty.
  /// \throws Error{kUnavailable} after a fatal error (another member took our group.instance.id)
  std::optional<Record> poll();

  /// Read the partition from this offset on (absent: where auto.offset.reset says) once resumed.
  /// \return false when the library is not ready for it yet: try again a little later
  bool start(const TopicPartition& partition, std::optional<std::int64_t> offset);

  /// Pause or resume; no effect when it is so already or not ours.
  void set_paused(const TopicPartition& partition, bool paused);
  [[nodiscard]] std::size_t paused_count() const { return paused_.size(); }

  /// Proof of membership for a transaction. Null while this consumer is not a member: metadata
  /// without a generation would switch the coordinator's check off.
  [[nodiscard]] KafkaGroupMetadata group_metadata() const;

  [[nodiscard]] bool has_joined() const { return has_joined_; }

  /// Leave the group. Serves the last revoke; gives up after `limit` (a 2.0.2 bug can hang it).
  /// \return whether the group was left in time
  bool close(std::chrono::milliseconds limit);

  [[nodiscard]] rd_kafka_t* handle() const { return handle_.get(); }

 private:
  static void on_rebalance(rd_kafka_t* handle,
                           rd_kafka_resp_err_t event,
                           rd_kafka_topic_partition_list_t* list,
                           void* opaque) noexcept;
  void assign(rd_kafka_topic_partition_list_t* list);
  void revoke(rd_kafka_topic_partition_list_t* list);

  void report(const rd_kafka_message_t& message) const;

  const WorkerConfig& config_;
  ConsumerListener& listener_;
  WakeUp wake_up_;
  KafkaHandle handle_;
  KafkaQueue queue_;
  std::set<TopicPartition> owned_;
  std::set<TopicPartition> paused_;
  std::exception_ptr callback_failure_;
  bool has_joined_ = false;
  bool closed_ = false;
};

}  // namespace onnxferry
