#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/consumer.h"

namespace onnxferry {

/// The worker's memberships in its group, one for each topic that it reads.
///
/// The sticky assignor evens out the number of partitions of each member, whatever their topics: a
/// newcomer could get every partition of the request topic and leave the idle retry topic to the
/// others. Members that read one topic only have equal shares of each.
/// Thread: one, but for `handle()`.
class Consumers {
 public:
  Consumers(const WorkerConfig& config, ConsumerListener& listener);

  /// Each readable when there is something to poll.
  [[nodiscard]] std::vector<int> descriptors() const;
  void clear_wake_ups() const;

  /// See Consumer::check.
  void check();
  /// See Consumer::poll; from each member in turn.
  std::optional<Record> poll();

  bool start(const TopicPartition& partition, std::optional<std::int64_t> offset);
  void set_paused(const TopicPartition& partition, bool paused);
  [[nodiscard]] std::size_t paused_count() const;

  /// Null while the member that reads this topic is none, or nothing is assigned to it.
  [[nodiscard]] KafkaGroupMetadata group_metadata(const std::string& topic);

  /// Whether the members that read the request topics have joined; a retry topic need not exist.
  [[nodiscard]] bool has_joined() const;

  /// Leave the group. \return whether that was done within `limit`
  bool close(std::chrono::milliseconds limit);

  /// Any member's: committed offsets are the group's.
  [[nodiscard]] rd_kafka_t* handle() const { return members_.begin()->second->handle(); }

 private:
  Consumer& member(const std::string& topic) { return *members_.at(topic); }

  const WorkerConfig& config_;
  std::map<std::string, std::unique_ptr<Consumer>> members_;  ///< by topic
  std::string next_;                                          ///< whose turn it is to be polled
};

}  // namespace onnxferry
