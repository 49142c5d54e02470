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

/// Learns about ownership and the ends of partitions. Called inside Consumer::poll, group_metadata
/// and close.
class ConsumerListener {
 public:
  virtual ~ConsumerListener() = default;
  /// These partitions are ours, paused, and not to be read before `Consumer::start`.
  virtual void on_assigned(std::span<const TopicPartition> partitions) = 0;
  /// The group wants these for other members, which wait until they get them: nothing more of them
  /// may start. Asked again at each poll, for `limit` in all; on_revoked follows in any case.
  /// \return whether nothing of them runs or waits for its commit any more
  virtual bool may_give_up(std::span<const TopicPartition> partitions,
                           std::chrono::milliseconds limit) = 0;
  /// These are not ours any more once this returns. kLost: another worker may own them already.
  virtual void on_revoked(std::span<const TopicPartition> partitions, Revocation kind) = 0;
  /// Every record below this offset has been returned by poll: the next one will be here or later.
  virtual void on_end(const TopicPartition& partition, std::int64_t offset) = 0;
};

/// One membership in the group, for one topic: reads records and follows rebalances; never commits.
///
/// A revoke is answered when the listener may give the partitions up: the protocol lets a member of
/// a cooperative group take its time, and the others work on meanwhile. An eager group stands still
/// until the last member has answered, so there a revoke is answered at once.
///
/// Works around librdkafka 2.0.2: it keeps its own set of paused partitions, as resuming one that
/// is not paused rewinds it, and pauses each new partition itself, as the library's pause flag
/// survives a revoke but a new partition has none. And it watches the member id, as the library
/// does not tell of a membership that ends while a rebalance is under way (`suspended_`).
/// Thread: one, but for `handle()`, which may be given to rd_kafka_committed on another thread.
class Consumer {
 public:
  /// \param properties  consumer_properties(), with what is this member's own
  Consumer(const WorkerConfig& config,
           const KafkaProperties& properties,
           const std::string& topic,
           ConsumerListener& listener);
  ~Consumer();
  Consumer(const Consumer&) = delete;
  Consumer& operator=(const Consumer&) = delete;

  /// Readable when there is something to poll.
  [[nodiscard]] int descriptor() const { return wake_up_.descriptor(); }
  void clear_wake_up() const { wake_up_.clear(); }

  /// Whether we are still the member that the partitions were given to, and whether a delayed
  /// revoke can be answered now. To be called before each round of polls.
  void check();

  /// Serve rebalances and the next record, without waiting. Nothing when the queue is empty.
  /// \throws Error{kUnavailable} after a fatal error (another member took our group.instance.id)
  std::optional<Record> poll();

  /// Read the partition from this offset on (absent: where auto.offset.reset says) once resumed.
  /// \return false when the library is not ready for it yet: try again a little later
  bool start(const TopicPartition& partition, std::optional<std::int64_t> offset);

  /// Pause or resume; no effect when it is so already or not ours.
  void set_paused(const TopicPartition& partition, bool paused);
  [[nodiscard]] std::size_t paused_count() const { return paused_.size(); }

  /// Proof of membership for a transaction. Null while this consumer is not the member that its
  /// partitions were given to: metadata without a generation would switch the coordinator's check
  /// off, and that of a new membership would vouch for partitions of the old one.
  [[nodiscard]] KafkaGroupMetadata group_metadata();

  [[nodiscard]] bool has_joined() const { return has_joined_; }

  /// Begin to leave the group; is_closed() tells when it is left. A 2.0.2 bug can hang it.
  void begin_close();
  /// Serves the last revoke. \pre begin_close()
  [[nodiscard]] bool is_closed();

  [[nodiscard]] rd_kafka_t* handle() const { return handle_.get(); }

 private:
  using Clock = std::chrono::steady_clock;

  /// A revoke that is not answered yet.
  struct Handover {
    KafkaPartitions list;
    std::vector<TopicPartition> partitions;
    Clock::time_point deadline;
  };

  static void on_rebalance(rd_kafka_t* handle,
                           rd_kafka_resp_err_t event,
                           rd_kafka_topic_partition_list_t* list,
                           void* opaque) noexcept;
  void assign(rd_kafka_topic_partition_list_t* list);
  void revoke(rd_kafka_topic_partition_list_t* list);
  void give_up(rd_kafka_topic_partition_list_t* list, Revocation kind);
  void serve_handover();
  void finish_handover();
  void suspend();
  [[nodiscard]] std::vector<TopicPartition> owned_of(
      const rd_kafka_topic_partition_list_t* list) const;

  void report(const rd_kafka_message_t& message) const;

  const WorkerConfig& config_;
  ConsumerListener& listener_;
  std::chrono::milliseconds handover_limit_;
  WakeUp wake_up_;
  KafkaHandle handle_;
  KafkaQueue queue_;
  std::set<TopicPartition> owned_;  ///< as the listener knows them
  /// What the library holds as assigned, but was assigned to a membership that has ended: the
  /// listener was told that it is lost. It gets them again when a later rebalance leaves them here.
  std::set<TopicPartition> suspended_;
  std::set<TopicPartition> paused_;
  std::string member_;  ///< whom `owned_` was assigned to
  std::optional<Handover> handover_;
  std::exception_ptr callback_failure_;
  bool has_joined_ = false;
  bool is_closing_ = false;
};

}  // namespace onnxferry
