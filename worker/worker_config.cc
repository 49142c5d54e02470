#include "worker/worker_config.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <regex>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "worker/kafka_client.h"

namespace onnxferry {
namespace {

struct FixedProperty {
  std::string_view name;
  std::string_view why;
};

constexpr std::string_view kProof = "exactly-once rests on its value";
constexpr std::array kFixedProperties = {
    FixedProperty{"acks", kProof},
    FixedProperty{"bootstrap.servers", "use --brokers"},
    FixedProperty{"delivery.report.only.error", kProof},
    FixedProperty{"enable.auto.commit", kProof},
    FixedProperty{"enable.auto.offset.store", kProof},
    FixedProperty{"enable.gapless.guarantee", kProof},
    FixedProperty{"enable.idempotence", kProof},
    FixedProperty{"enable.partition.eof", "the worker sets it"},
    FixedProperty{"group.id", "use --group"},
    FixedProperty{"isolation.level", kProof},
    FixedProperty{"max.in.flight", kProof},
    FixedProperty{"max.in.flight.requests.per.connection", kProof},
    FixedProperty{"message.send.max.retries", kProof},
    FixedProperty{"metadata.broker.list", "use --brokers"},
    FixedProperty{"request.required.acks", kProof},
    FixedProperty{"retries", kProof},
    FixedProperty{"transactional.id", "it is made of the group, the host and a slot number"},
};

bool is_topic_name(std::string_view name) {
  return !name.empty() && name.size() <= 249 && name != "." && name != ".." &&
         std::ranges::all_of(name, [](unsigned char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

class Problems {
 public:
  void require(bool holds, std::string_view field, std::string text) {
    if (!holds) {
      list_.push_back({std::string(field), std::move(text)});
    }
  }
  void in_range(std::string_view field, std::int64_t value, std::int64_t low, std::int64_t high) {
    require(value >= low && value <= high,
            field,
            fmt::format("{} is outside {} to {}", value, low, high));
  }
  void topic(std::string_view field, const std::string& name) {
    require(
        is_topic_name(name),
        field,
        fmt::format("\"{}\" is not a topic name; expected 1 to 249 of a-z A-Z 0-9 . _ -", name));
  }
  std::vector<FieldProblem> take() { return std::move(list_); }

 private:
  std::vector<FieldProblem> list_;
};

// Only for a value that librdkafka takes: below 2.4 it does not know the property at all.
void check_group_protocol(const WorkerConfig& config, Problems& problems) {
  constexpr int kComplete = 0x020c0000;
  if (!is_broker_side_group(config.kafka)) {
    return;
  }
  problems.require(rd_kafka_version() >= kComplete,
                   "kafka",
                   fmt::format("group.protocol=consumer needs librdkafka 2.12 or newer; this is {}",
                               rd_kafka_version_str()));
  for (const char* property :
       {"session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"}) {
    problems.require(
        !config.kafka.contains(property),
        "kafka",
        fmt::format("{} cannot be set with group.protocol=consumer: the broker decides it",
                    property));
  }
}

// Properties that are each taken can contradict each other, which only a handle shows.
std::vector<FieldProblem> check_kafka_as_a_whole(const WorkerConfig& config) {
  Problems problems;
  const std::string consumer = find_setup_problem(RD_KAFKA_CONSUMER, consumer_properties(config));
  problems.require(consumer.empty(), "kafka", fmt::format("for reading requests: {}", consumer));
  const std::string producer =
      find_setup_problem(RD_KAFKA_PRODUCER, producer_properties(config, "check"));
  problems.require(producer.empty(), "kafka", fmt::format("for sending replies: {}", producer));
  return problems.take();
}

void check_retry_topics(const WorkerConfig& config, Problems& problems) {
  std::set<std::string> names;
  for (const std::string& request_topic : config.request_topics) {
    names.insert(retry_topic_of(config, request_topic));
  }
  for (const std::string& name : names) {
    problems.topic("retry-topic", name);
    const auto differs = [&](bool holds, std::string_view what) {
      problems.require(
          holds, "retry-topic", fmt::format("\"{}\" is {} too; choose another name", name, what));
    };
    differs(std::ranges::find(config.request_topics, name) == config.request_topics.end(),
            "a request topic");
    differs(name != config.reply_topic, "the reply topic");
    differs(name != config.dlq_topic, "the dead-letter topic");
    differs(name != config.cancel_topic, "the cancel topic");
    differs(name != config.progress_topic, "the progress topic");
  }
}

void check_kafka(const WorkerConfig& config, Problems& problems) {
  problems.require(!config.brokers.empty(), "brokers", "is empty; expected host:port[,host:port]");
  problems.require(!config.group.empty(), "group", "is empty; expected a consumer group id");
  problems.require(!config.request_topics.empty(), "request-topic", "is empty");
  for (const std::string& topic : config.request_topics) {
    problems.topic("request-topic", topic);
    problems.require(
        topic != config.reply_topic,
        "reply-topic",
        fmt::format("\"{}\" is a request topic too; replies would be read as requests", topic));
  }
  check_retry_topics(config, problems);
  problems.topic("reply-topic", config.reply_topic);
  if (!config.dlq_topic.empty()) {
    problems.topic("dlq-topic", config.dlq_topic);
  }
  for (const auto& [flag, topic] : {std::pair("cancel-topic", config.cancel_topic),
                                    std::pair("progress-topic", config.progress_topic)}) {
    if (!topic.empty()) {
      problems.topic(flag, topic);
      problems.require(
          std::ranges::find(config.request_topics, topic) == config.request_topics.end(),
          flag,
          fmt::format("\"{}\" is a request topic too; choose another name", topic));
    }
  }
  try {
    const std::regex check(config.reply_topic_allow);
  } catch (const std::regex_error& error) {
    problems.require(
        false, "reply-topic-allow", fmt::format("not a regular expression: {}", error.what()));
  }
  for (const auto& [name, value] : config.kafka) {
    const std::string_view why = why_kafka_property_is_fixed(name);
    problems.require(why.empty(), "kafka", fmt::format("{} cannot be set: {}", name, why));
    if (why.empty()) {
      const std::string refused = find_property_problem(name, value);
      problems.require(refused.empty(), "kafka", refused);
    }
  }
  check_group_protocol(config, problems);
  problems.in_range("max-reply-bytes", config.max_reply_bytes, 4'096, 100'000'000);
  problems.require(
      config.broker_outage_limit_ms == 0 || config.broker_outage_limit_ms >= 5'000,
      "broker-outage-limit-ms",
      fmt::format("{} is less than 5000; 0 means never", config.broker_outage_limit_ms));
  problems.in_range("publish-deadline-ms", config.publish_deadline_ms, 1'000, 3'600'000);
}

void check_jobs(const WorkerConfig& config, Problems& problems) {
  problems.in_range("max-jobs", config.max_jobs, 1, 32);
  problems.in_range("max-attempts", config.max_attempts, 1, 100);
  problems.in_range("retry-delay-ms", config.retry_delay_ms, 0, 86'400'000);
  problems.in_range("retry-backoff-ms", config.retry_backoff_ms, 0, 3'600'000);
  problems.in_range(
      "retry-backoff-max-ms", config.retry_backoff_max_ms, config.retry_backoff_ms, 86'400'000);
  problems.in_range("handover-limit-ms", config.handover_limit_ms, 0, 21'600'000);
  problems.in_range("readopt-grace-ms", config.readopt_grace_ms, 0, 3'600'000);
  problems.in_range("drain-grace-ms", config.drain_grace_ms, 0, 86'400'000);
  problems.in_range("kill-grace-ms", config.kill_grace_ms, 0, 600'000);
  problems.require(
      config.job_memory_bytes == 0 || config.job_memory_bytes >= (64U << 20U),
      "job-memory-bytes",
      fmt::format("{} is less than 64 MiB; 0 means no limit", config.job_memory_bytes));
  problems.require(config.job_cpu_seconds <= 604'800,
                   "job-cpu-seconds",
                   fmt::format("{} is outside 0 to 604800", config.job_cpu_seconds));
  problems.in_range("job-wall-seconds", config.job_wall_seconds, 0, 604'800);
  problems.require(config.job_cpu_percent == 0 ||
                       (config.job_cpu_percent >= 10 && config.job_cpu_percent <= 100'000),
                   "job-cpu-percent",
                   fmt::format("{} is neither 0 nor 10 to 100000; 100 is one processor",
                               config.job_cpu_percent));
  problems.require(
      config.scratch.starts_with('/'),
      "scratch",
      fmt::format("\"{}\" is not an absolute path; expected a directory", config.scratch));
  problems.require(!config.job_command.empty(), "job-command", "is empty");
}

}  // namespace

std::string retry_topic_of(const WorkerConfig& config, const std::string& origin) {
  if (!config.retry_topic.empty()) {
    return config.retry_topic;
  }
  return is_retry_topic(config, origin) ? origin : origin + ".retry";
}

bool is_retry_topic(const WorkerConfig& config, const std::string& topic) {
  if (!config.retry_topic.empty()) {
    return topic == config.retry_topic;
  }
  return std::ranges::any_of(config.request_topics, [&](const std::string& request_topic) {
    return topic == request_topic + ".retry";
  });
}

std::string dlq_topic_of(const WorkerConfig& config, const std::string& origin) {
  if (!config.dlq_topic.empty()) {
    return config.dlq_topic;
  }
  for (const std::string& request_topic : config.request_topics) {
    if (origin == retry_topic_of(config, request_topic)) {
      return request_topic + ".dlq";
    }
  }
  return origin + ".dlq";
}

std::vector<std::string> consumed_topics(const WorkerConfig& config) {
  std::set<std::string> topics(config.request_topics.begin(), config.request_topics.end());
  for (const std::string& request_topic : config.request_topics) {
    topics.insert(retry_topic_of(config, request_topic));
  }
  return {topics.begin(), topics.end()};
}

std::string_view why_kafka_property_is_fixed(std::string_view property) {
  const auto* const found = std::ranges::find(kFixedProperties, property, &FixedProperty::name);
  return found == kFixedProperties.end() ? std::string_view() : found->why;
}

std::string weights_cache_directory(const WorkerConfig& config) {
  return (std::filesystem::path(config.scratch) / "weights").string();
}

std::vector<FieldProblem> check_worker_config(const WorkerConfig& config) {
  Problems problems;
  check_kafka(config, problems);
  check_jobs(config, problems);
  for (std::string& text : check_store_config(config.stores)) {
    problems.require(false, "stores", std::move(text));
  }
  for (auto& [field, text] : check_otlp_settings(config.tracing)) {
    problems.require(false, field, std::move(text));
  }
  const bool has_port = config.http.empty() || config.http.rfind(':') != std::string::npos;
  problems.require(
      has_port, "http", fmt::format("\"{}\" has no port; expected host:port or \"\"", config.http));
  constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warn", "error"};
  problems.require(std::ranges::find(kLevels, config.log_level) != kLevels.end(),
                   "log-level",
                   fmt::format("\"{}\" is not one of debug, info, warn, error", config.log_level));
  std::vector<FieldProblem> list = problems.take();
  if (list.empty()) {
    list = check_kafka_as_a_whole(config);
  }
  return list;
}

}  // namespace onnxferry
