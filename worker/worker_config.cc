#include "worker/worker_config.h"

#include <algorithm>
#include <array>
#include <regex>
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
  problems.topic("reply-topic", config.reply_topic);
  if (!config.dlq_topic.empty()) {
    problems.topic("dlq-topic", config.dlq_topic);
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
  problems.in_range("max-reply-bytes", config.max_reply_bytes, 4'096, 100'000'000);
  problems.in_range("publish-deadline-ms", config.publish_deadline_ms, 1'000, 3'600'000);
}

void check_jobs(const WorkerConfig& config, Problems& problems) {
  problems.in_range("max-jobs", config.max_jobs, 1, 32);
  problems.in_range("max-attempts", config.max_attempts, 1, 100);
  problems.in_range("retry-backoff-ms", config.retry_backoff_ms, 0, 3'600'000);
  problems.in_range(
      "retry-backoff-max-ms", config.retry_backoff_max_ms, config.retry_backoff_ms, 86'400'000);
  problems.in_range("readopt-grace-ms", config.readopt_grace_ms, 0, 3'600'000);
  problems.in_range("drain-grace-ms", config.drain_grace_ms, 0, 86'400'000);
  problems.in_range("kill-grace-ms", config.kill_grace_ms, 0, 600'000);
  problems.require(
      config.job_memory_bytes == 0 || config.job_memory_bytes >= (64U << 20U),
      "job-memory-bytes",
      fmt::format("{} is less than 64 MiB; 0 means no limit", config.job_memory_bytes));
  problems.require(
      config.scratch.starts_with('/'),
      "scratch",
      fmt::format("\"{}\" is not an absolute path; expected a directory", config.scratch));
  problems.require(!config.job_command.empty(), "job-command", "is empty");
}

}  // namespace

std::string_view why_kafka_property_is_fixed(std::string_view property) {
  const auto* const found = std::ranges::find(kFixedProperties, property, &FixedProperty::name);
  return found == kFixedProperties.end() ? std::string_view() : found->why;
}

std::vector<FieldProblem> check_worker_config(const WorkerConfig& config) {
  Problems problems;
  check_kafka(config, problems);
  check_jobs(config, problems);
  for (std::string& text : check_store_config(config.stores)) {
    problems.require(false, "stores", std::move(text));
  }
  const bool has_port = config.http.empty() || config.http.rfind(':') != std::string::npos;
  problems.require(
      has_port, "http", fmt::format("\"{}\" has no port; expected host:port or \"\"", config.http));
  constexpr std::array<std::string_view, 4> kLevels = {"debug", "info", "warn", "error"};
  problems.require(std::ranges::find(kLevels, config.log_level) != kLevels.end(),
                   "log-level",
                   fmt::format("\"{}\" is not one of debug, info, warn, error", config.log_level));
  return problems.take();
}

}  // namespace onnxferry
