#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "messages/headers.h"
#include "worker/kafka_handles.h"

namespace onnxferry {

struct WorkerConfig;

struct TopicPartition {
  std::string topic;
  std::int32_t partition = 0;

  auto operator<=>(const TopicPartition&) const = default;
};

/// "topic[3]"
std::string to_string(const TopicPartition& partition);

/// A record as it was read; owns its bytes.
struct Record {
  messages::RecordPosition position;
  std::optional<std::string> key;
  std::optional<std::string> value;
  messages::Headers headers;
  std::int64_t timestamp_ms = -1;  ///< -1: the record has none
  bool log_append_time = false;

  [[nodiscard]] TopicPartition source() const { return {position.topic, position.partition}; }
};

/// This host's name, or "unknown".
std::string host_name();

using KafkaProperties = std::map<std::string, std::string>;

/// What an operator can do about an error of librdkafka that does not mend itself, to be put behind
/// its reason; empty for the others.
std::string find_advice(rd_kafka_t* handle, int code);

/// What librdkafka says against a property; empty when it takes it.
std::string find_property_problem(const std::string& name, const std::string& value);

/// What librdkafka says against the properties together, e.g. two that contradict each other or a
/// file that cannot be read; empty when it takes them. Connects to nothing.
std::string find_setup_problem(rd_kafka_type_t type, KafkaProperties properties);

/// group.protocol=consumer (KIP-848): the broker assigns partitions and decides the times, so the
/// properties that say the same for the classic protocol must not be set.
bool is_broker_side_group(const KafkaProperties& properties);

/// The properties of both handles: brokers, names, time limits, then what the user passed through.
KafkaProperties common_properties(const WorkerConfig& config);
KafkaProperties consumer_properties(const WorkerConfig& config);
KafkaProperties producer_properties(const WorkerConfig& config,
                                    const std::string& transactional_id);

/// \throws Error{kInvalidRequest} naming the refused property
KafkaConf make_conf(const KafkaProperties& properties);

/// Create a handle whose library log and error events go to our log.
/// \throws Error{kUnavailable} with librdkafka's reason
KafkaHandle make_handle(rd_kafka_type_t type, KafkaConf conf);
/// Give up a handle that cannot be destroyed: its threads go on until `end_process`.
void leave_running(KafkaHandle handle);
/// What main() ends with. Where a handle was left running no exit handler runs: OpenSSL's, for one,
/// frees what the handle's threads use.
[[noreturn]] void end_process(int exit_code);

KafkaPartitions make_partitions(std::span<const TopicPartition> partitions);

/// Copy a message that carries no error.
Record to_record(const rd_kafka_message_t& message);

}  // namespace onnxferry
