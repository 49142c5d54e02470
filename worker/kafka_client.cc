#include "worker/kafka_client.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <syslog.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "pipeline/version.h"
#include "worker/log.h"
#include "worker/worker_config.h"

namespace onnxferry {
namespace {

/// Below, the second SCRAM message repeats the client's nonce, which Kafka 4 brokers refuse.
constexpr int kScramFixed = 0x020601ff;

std::atomic<bool> is_handle_left = false;

// librdkafka calls these from its own threads or from our polls; neither may throw into C.
void on_log(const rd_kafka_t* /*handle*/,
            int level,
            const char* facility,
            const char* text) noexcept {
  // Broker connections come and go; the state that matters is logged where it is decided. A
  // property that concerns the other handle only is not worth a line either.
  const std::string_view name(facility);
  const bool routine = level >= LOG_WARNING || name == "FAIL" || name == "CONFWARN";
  try {
    log(routine ? LogLevel::kDebug : LogLevel::kWarn, text, {{"librdkafka", std::string(name)}});
  } catch (...) {  // NOLINT(bugprone-empty-catch): nothing to tell it to, and C must not see it
  }
}

std::string get_property(rd_kafka_t* handle, const char* name) {
  std::array<char, 256> value{};
  std::size_t size = value.size();
  const auto result = rd_kafka_conf_get(rd_kafka_conf(handle), name, value.data(), &size);
  return result == RD_KAFKA_CONF_OK ? std::string(value.data()) : std::string();
}

void on_error(rd_kafka_t* handle, int code, const char* reason, void* /*opaque*/) noexcept {
  const bool producer = rd_kafka_type(handle) == RD_KAFKA_PRODUCER;
  try {
    log(LogLevel::kWarn,
        reason + find_advice(handle, code),
        {{"kafka", producer ? "producer" : "consumer"},
         {"error", rd_kafka_err2name(static_cast<rd_kafka_resp_err_t>(code))}});
  } catch (...) {  // NOLINT(bugprone-empty-catch): nothing to tell it to, and C must not see it
  }
}

std::string set_property(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
  std::array<char, 512> reason{};
  const auto result =
      rd_kafka_conf_set(conf, name.c_str(), value.c_str(), reason.data(), reason.size());
  return result == RD_KAFKA_CONF_OK ? std::string() : std::string(reason.data());
}

std::optional<std::string> copy_bytes(const void* bytes, std::size_t size) {
  if (bytes == nullptr) {
    return std::nullopt;
  }
  return std::string(static_cast<const char*>(bytes), size);
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : "unknown";
}

std::string find_advice(rd_kafka_t* handle, int code) {
  if (code == RD_KAFKA_RESP_ERR__SSL) {
    return "; check ssl.ca.location, the broker's certificate and its host name";
  }
  if (code != RD_KAFKA_RESP_ERR__AUTHENTICATION) {
    return {};
  }
  const bool scram = get_property(handle, "sasl.mechanism").starts_with("SCRAM");
  if (scram && rd_kafka_version() < kScramFixed) {
    return fmt::format(
        "; check sasl.username and sasl.password; besides, librdkafka {} cannot log in by SCRAM at "
        "Kafka 4 brokers: use 2.6.1 or newer, or another mechanism",
        rd_kafka_version_str());
  }
  return "; check sasl.mechanism, sasl.username and sasl.password";
}

std::string to_string(const TopicPartition& partition) {
  return fmt::format("{}[{}]", partition.topic, partition.partition);
}

std::string find_property_problem(const std::string& name, const std::string& value) {
  const KafkaConf conf(rd_kafka_conf_new());
  const std::string reason = set_property(conf.get(), name, value);
  const bool is_unknown = reason.starts_with("No such configuration property");
  return is_unknown ? fmt::format("{} in librdkafka {}", reason, rd_kafka_version_str()) : reason;
}

std::string find_setup_problem(rd_kafka_type_t type, KafkaProperties properties) {
  properties.erase("bootstrap.servers");  // nothing is to be connected
  KafkaConf conf = make_conf(properties);
  rd_kafka_conf_set_log_cb(conf.get(), nullptr);
  std::array<char, 512> reason{};
  const KafkaHandle handle(rd_kafka_new(type, conf.get(), reason.data(), reason.size()));
  if (!handle) {
    return reason.data();
  }
  static_cast<void>(conf.release());  // NOLINT(bugprone-unused-return-value): the handle owns it
  return {};
}

bool is_broker_side_group(const KafkaProperties& properties) {
  const auto protocol = properties.find("group.protocol");
  return protocol != properties.end() && protocol->second == "consumer";
}

KafkaProperties common_properties(const WorkerConfig& config) {
  KafkaProperties properties = {
      {"bootstrap.servers", config.brokers},
      {"client.id", host_name()},
      {"client.software.name", "onnxferry"},
      {"client.software.version", std::string(version())},
      // A metadata request that hangs on a dead broker holds up coordinator discovery in 2.0.2.
      {"socket.timeout.ms", "10000"},
      {"socket.keepalive.enable", "true"},
      {"socket.nagle.disable", "true"},
      {"reconnect.backoff.max.ms", "3000"},
      // Back-to-back transactions are refused until the markers of the last one are written; the
      // default of 100 ms would be the median of every reply. Measured: 2.8 ms at 20.
      {"retry.backoff.ms", "20"},
  };
  for (const auto& [name, value] : config.kafka) {
    properties[name] = value;
  }
  return properties;
}

KafkaProperties consumer_properties(const WorkerConfig& config) {
  KafkaProperties properties = {
      {"auto.offset.reset", "earliest"},  // a new group must not skip requests
      {"check.crcs", "true"},
      {"fetch.wait.max.ms", "100"},
      // Jobs are long: a deep prefetch is memory that a pause throws away again.
      {"queued.min.messages", "8"},
      {"queued.max.messages.kbytes", "8192"},
      // Also how long the broker waits for a member that delays a revoke (handover_limit_ms).
      {"max.poll.interval.ms", std::to_string(std::max(300'000, config.handover_limit_ms / 3 * 4))},
  };
  if (!is_broker_side_group(config.kafka)) {
    // The only one that lets a member finish what it runs before it gives a partition up.
    properties["partition.assignment.strategy"] = "cooperative-sticky";
    properties["session.timeout.ms"] = "45000";
    properties["heartbeat.interval.ms"] = "3000";
  }
  for (const auto& [name, value] : common_properties(config)) {
    properties[name] = value;
  }
  properties["group.id"] = config.group;
  properties["enable.auto.commit"] = "false";
  properties["enable.auto.offset.store"] = "false";
  properties["isolation.level"] = "read_committed";
  properties["enable.partition.eof"] = "true";  // the lag reaches zero behind transaction markers
  return properties;
}

KafkaProperties producer_properties(const WorkerConfig& config,
                                    const std::string& transactional_id) {
  KafkaProperties properties = {
      {"linger.ms", "0"},
      {"transaction.timeout.ms", "15000"},
      {"message.timeout.ms", "15000"},
  };
  for (const auto& [name, value] : common_properties(config)) {
    properties[name] = value;
  }
  properties["transactional.id"] = transactional_id;
  properties["enable.idempotence"] = "true";
  properties["acks"] = "all";
  return properties;
}

KafkaConf make_conf(const KafkaProperties& properties) {
  KafkaConf conf(rd_kafka_conf_new());
  for (const auto& [name, value] : properties) {
    if (const std::string reason = set_property(conf.get(), name, value); !reason.empty()) {
      throw Error(
          ErrorCode::kInvalidRequest, fmt::format("Kafka property {}: {}", name, reason), name);
    }
  }
  return conf;
}

KafkaHandle make_handle(rd_kafka_type_t type, KafkaConf conf) {
  rd_kafka_conf_set_log_cb(conf.get(), on_log);
  rd_kafka_conf_set_error_cb(conf.get(), on_error);
  std::array<char, 512> reason{};
  KafkaHandle handle(rd_kafka_new(type, conf.get(), reason.data(), reason.size()));
  if (!handle) {
    throw Error(ErrorCode::kInvalidRequest, fmt::format("cannot set up Kafka: {}", reason.data()));
  }
  static_cast<void>(conf.release());  // NOLINT(bugprone-unused-return-value): the handle owns it
  return handle;
}

void leave_running(KafkaHandle handle) {
  is_handle_left = true;
  static_cast<void>(handle.release());  // NOLINT(bugprone-unused-return-value): nobody's any more
}

void end_process(int exit_code) {
  if (is_handle_left) {
    static_cast<void>(std::fflush(nullptr));
    std::_Exit(exit_code);
  }
  std::exit(exit_code);  // NOLINT(concurrency-mt-unsafe): our threads have ended
}

KafkaPartitions make_partitions(std::span<const TopicPartition> partitions) {
  KafkaPartitions list(rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size())));
  for (const TopicPartition& partition : partitions) {
    rd_kafka_topic_partition_list_add(list.get(), partition.topic.c_str(), partition.partition);
  }
  return list;
}

Record to_record(const rd_kafka_message_t& message) {
  Record record;
  record.position = {rd_kafka_topic_name(message.rkt), message.partition, message.offset};
  record.key = copy_bytes(message.key, message.key_len);
  record.value = copy_bytes(message.payload, message.len);
  rd_kafka_timestamp_type_t type = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
  record.timestamp_ms = rd_kafka_message_timestamp(&message, &type);
  record.log_append_time = type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME;
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    for (std::size_t i = 0;
         rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         ++i) {
      record.headers.push_back({name, copy_bytes(value, size)});
    }
  }
  return record;
}

}  // namespace onnxferry
